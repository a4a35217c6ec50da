// The firmware's protocol on a desk: requests on standard input, answers on standard output, all time handed in.
//
// A request is a letter, a u32 length and that many bytes; an answer is a u32 length and that many bytes.
//   P bytes                 a parser of its own: frames found, counts, bytes held
//   E id boot sequence ...  a frame as it goes over the line
//   B boot reason           a rover that starts at 0 ms
//   I inputs                what its sensors say from now on
//   F (ms, size, bytes)...  time up to ms in steps of 1 ms, then bytes: the log, what it sent, what its motors do
//   Z seed number           so many bytes of noise and of broken frames, made here
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <memory>
#include <vector>

#include "protocol.h"

using namespace rover;

typedef std::vector<uint8_t> Bytes;

static Bytes sent, events;
static uint32_t now_ms;
static bool was_moving;
static Inputs inputs;
static std::unique_ptr<Rover> robot;
static Parser parser;

template <typename T>
static void append(Bytes& to, T value) {
  uint8_t bytes[sizeof(T)];
  put(bytes, value);
  to.insert(to.end(), bytes, bytes + sizeof(T));
}

static void append_frame(Bytes& to, const Frame& frame) {
  append(to, frame.id);
  append(to, frame.boot);
  append(to, frame.sequence);
  append(to, frame.size);
  to.insert(to.end(), frame.payload, frame.payload + frame.size);
}

static void send(const uint8_t* bytes, uint8_t size) { sent.insert(sent.end(), bytes, bytes + size); }

static void executed(const Frame& frame) {
  append(events, uint8_t('X'));
  append(events, now_ms);
  append_frame(events, frame);
}

static void look() {
  const Outputs o = robot->outputs();
  const bool moving = o.left || o.right || o.fan || o.brush || o.side_brush;
  if (moving == was_moving) return;
  was_moving = moving;
  append(events, uint8_t('M'));
  append(events, now_ms);
  append(events, uint8_t(moving));
}

static void pass_until(uint32_t ms) {
  while (now_ms < ms) {
    ++now_ms;
    robot->watch(now_ms);
    if (now_ms % CONTROL_MS == 0) robot->control(now_ms, inputs);
    if (now_ms % TELEMETRY_MS == 0) robot->report(now_ms, inputs);
    look();
  }
}

static void hear(uint8_t byte) {
  robot->receive(byte, now_ms);
  look();
}

static Bytes parse(const Bytes& data) {
  Bytes found, answer;
  uint32_t number = 0;
  for (size_t i = 0; i < data.size(); ++i) {
    if (!parser.feed(data[i])) continue;
    ++number;
    append_frame(found, parser.frame);
  }
  append(answer, number);
  answer.insert(answer.end(), found.begin(), found.end());
  const Counts& c = parser.counts;
  const uint32_t counts[] = {c.frames, c.overlong, c.broken, c.crc, c.version, c.length};
  for (uint32_t count : counts) append(answer, count);
  append(answer, parser.num_held());
  return answer;
}

static Bytes run(const Bytes& data) {
  size_t at = 0;
  while (at + 6 <= data.size()) {
    const uint32_t ms = get<uint32_t>(&data[at]);
    const uint16_t size = get<uint16_t>(&data[at + 4]);
    at += 6;
    pass_until(ms);
    for (size_t k = 0; k < size && at < data.size(); ++k) hear(data[at++]);
  }
  const Outputs o = robot->outputs();
  Bytes answer;
  append(answer, uint8_t(o.enabled));
  append(answer, o.left);
  append(answer, o.right);
  append(answer, o.fan);
  append(answer, o.brush);
  append(answer, o.side_brush);
  append(answer, uint8_t(robot->state()));
  append(answer, uint8_t(robot->reason()));
  append(answer, robot->latches());
  append(answer, uint32_t(events.size()));
  answer.insert(answer.end(), events.begin(), events.end());
  answer.insert(answer.end(), sent.begin(), sent.end());
  events.clear();
  sent.clear();
  return answer;
}

static uint64_t state;

static uint32_t chance() {  // SplitMix64 (Steele et al. 2014)
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return uint32_t((z ^ (z >> 31)) >> 32);
}

// Half noise, half frames of ours with a byte changed, left out or doubled: those get far into the parser.
static Bytes fuzz(uint64_t number) {
  uint64_t fed = 0;
  uint32_t most_held = 0;
  while (fed < number) {
    uint8_t line[MAX_ON_LINE + 1];
    uint8_t size = uint8_t(1 + chance() % MAX_ON_LINE);
    if (chance() % 2) {
      uint8_t payload[MAX_PAYLOAD];
      for (uint8_t& byte : payload) byte = uint8_t(chance());
      const uint8_t id = uint8_t(chance() % 8);
      const int16_t right = payload_size(id);
      const uint8_t length = right >= 0 && chance() % 4 ? uint8_t(right) : uint8_t(chance() % (MAX_PAYLOAD + 1));
      size = encode(id, uint16_t(chance() % 4), uint16_t(chance()), payload, length, line);
      const uint8_t place = uint8_t(chance() % size);
      if (chance() % 2) line[place] = uint8_t(chance());
      if (chance() % 4 == 0) {
        memmove(line + place, line + place + 1, size_t(size - place - 1));
        --size;
      } else if (chance() % 4 == 0) {
        memmove(line + place + 1, line + place, size_t(size - place));
        ++size;
      }
    } else {
      for (uint8_t i = 0; i < size; ++i) line[i] = uint8_t(chance() % 4 ? chance() : 0);
    }
    for (uint8_t i = 0; i < size; ++i) {
      hear(line[i]);
      if (robot->parser.num_held() > most_held) most_held = robot->parser.num_held();
    }
    fed += size;
    if (chance() % 16 == 0) pass_until(now_ms + chance() % 8);
    if (sent.size() > 100000) sent.clear();
    if (events.size() > 100000) events.clear();
  }
  Bytes answer;
  append(answer, uint32_t(fed));
  append(answer, robot->parser.counts.frames);
  append(answer, robot->parser.counts.bad());
  append(answer, most_held);
  sent.clear();
  events.clear();
  return answer;
}

static Bytes answer_to(char request, const Bytes& data) {
  Bytes answer;
  switch (request) {
    case 'P':
      return parse(data);
    case 'E': {
      uint8_t line[MAX_ON_LINE];
      const uint8_t size = encode(data[0], get<uint16_t>(&data[1]), get<uint16_t>(&data[3]), data.data() + 5,
                                  uint8_t(data.size() - 5), line);
      return Bytes(line, line + size);
    }
    case 'B':
      now_ms = 0;
      was_moving = false;
      inputs = Inputs();
      robot.reset(new Rover(send, executed));
      robot->begin(get<uint16_t>(&data[0]), static_cast<Reason>(data[2]), 0);
      return run(Bytes());
    case 'I':
      inputs.bump_left = data[0];
      inputs.bump_right = data[1];
      inputs.cliff = data[2];
      inputs.wall = data[3];
      inputs.left_counts = get<int32_t>(&data[4]);
      inputs.right_counts = get<int32_t>(&data[8]);
      return answer;
    case 'F':
      return run(data);
    case 'Z':
      state = get<uint32_t>(&data[0]);
      return fuzz(get<uint32_t>(&data[4]));
    default:
      fprintf(stderr, "no such request: %c\n", request);
      exit(2);
  }
}

int main() {
  uint8_t head[5];
  while (fread(head, 1, sizeof head, stdin) == sizeof head) {
    Bytes data(get<uint32_t>(head + 1));
    if (!data.empty() && fread(data.data(), 1, data.size(), stdin) != data.size()) return 2;
    const Bytes answer = answer_to(static_cast<char>(head[0]), data);
    uint8_t length[4];
    put(length, uint32_t(answer.size()));
    fwrite(length, 1, sizeof length, stdout);
    if (!answer.empty()) fwrite(answer.data(), 1, answer.size(), stdout);
    fflush(stdout);
  }
  return 0;
}
