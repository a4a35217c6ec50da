// What the rover does with frames, time and sensors. Pure: the clock and the sensors are handed in, bytes and duties are
// handed out; the same source runs on the ATmega328P, in the emulator and in native tests.
//
// Motors turn only while ARMED. Every way to stop latches: telemetry's `latch` counts the stops, and an arm has to name
// the count that it lifts, so that an arm which was sent before a stop never lifts it.
#ifndef ROVER_PROTOCOL_H
#define ROVER_PROTOCOL_H

#include <stdint.h>

#include "framing.h"
#include "wheel.h"

namespace rover {

constexpr uint16_t FIRMWARE = 1;
// A pressed bumper is for the host to answer, which may want to slide along it; one that says nothing new for this long
// has not seen it.
constexpr uint32_t BUMP_MS = 80;
constexpr uint8_t NUM_REMEMBERED = 8;  // results of commands, for a host that asks again

struct Inputs {
  bool bump_left, bump_right, cliff, wall;
  int32_t left_counts, right_counts;
  uint16_t voltage_mv, current_ma;
  uint8_t dirt;
  uint16_t sound;  // 0.1 dB(A)
};

struct Outputs {
  bool enabled;  // of the motor drivers: a line of its own beside the duties
  int16_t left, right;  // duty, -FULL_DUTY..FULL_DUTY
  uint8_t fan, brush, side_brush;  // percent

  bool operator==(const Outputs& o) const {
    return enabled == o.enabled && left == o.left && right == o.right && fan == o.fan && brush == o.brush &&
           side_brush == o.side_brush;
  }
};

class Rover {
 public:
  typedef void (*Send)(const uint8_t* bytes, uint8_t size);
  typedef void (*Executed)(const Frame& frame);  // for tests: what was obeyed, once

  explicit Rover(Send send, Executed executed = nullptr) : send_(send), executed_(executed) {}

  // Once, before all else. `boot` differs from start to start; the first frame tells that it has restarted.
  void begin(uint16_t boot, Reason reason, uint32_t now) {
    boot_ = boot;
    reason_ = reason;
    welcome(now, 0);
  }

  void receive(uint8_t byte, uint32_t now) {
    if (parser.feed(byte)) handle(parser.frame, now);
  }

  // As often as possible: nothing is late by more than the loop is slow.
  void watch(uint32_t now) {
    if (state_ == State::ARMED && now - fed_ >= DEAD_MAN_MS) latch(Reason::DEAD_MAN);
  }

  // Every CONTROL_MS.
  void control(uint32_t now, const Inputs& inputs) {
    inputs_ = inputs;
    watch(now);
    steer(now);
    const bool contact = inputs.bump_left || inputs.bump_right;
    if (contact) touched_ = now;
    const bool clear = !contact && !inputs.cliff && now - touched_ > BUMP_MS;
    const bool free = clear && left_.target() > 0 && right_.target() > 0;
    left_.tick(inputs.left_counts, free);
    right_.tick(inputs.right_counts, free);
  }

  // Every TELEMETRY_MS.
  void report(uint32_t now, const Inputs& inputs) {
    Telemetry t;
    t.now_ms = now;
    t.state = static_cast<uint8_t>(state_);
    t.reason = static_cast<uint8_t>(reason_);
    t.latch = latch_;
    t.switches = (inputs.bump_left ? 1 : 0) | (inputs.bump_right ? 2 : 0) | (inputs.cliff ? 4 : 0) |
                 (inputs.wall ? 8 : 0) | (bump_holds_ ? 16 : 0) | (cliff_holds_ ? 32 : 0);
    t.left_counts = inputs.left_counts;
    t.right_counts = inputs.right_counts;
    t.left_mm_s = left_.target();
    t.right_mm_s = right_.target();
    t.fan = drive_.fan;
    t.brush = drive_.brush;
    t.side_brush = drive_.side_brush;
    t.voltage_mv = inputs.voltage_mv;
    t.current_ma = inputs.current_ma;
    t.dirt = inputs.dirt;
    t.sound = inputs.sound;
    t.heard = last_;
    t.bad = static_cast<uint16_t>(parser.counts.bad());
    send(t);
  }

  Outputs outputs() const {
    const bool on = state_ == State::ARMED;
    Outputs o = {on, 0, 0, 0, 0, 0};
    if (on) {
      o.left = left_.duty();
      o.right = right_.duty();
      o.fan = drive_.fan;
      o.brush = drive_.brush;
      o.side_brush = drive_.side_brush;
    }
    return o;
  }

  State state() const { return state_; }
  Reason reason() const { return reason_; }
  uint8_t latches() const { return latch_; }

  Parser parser;

 private:
  void handle(const Frame& frame, uint32_t now) {
    // The way of a stop is its own: no boot, no sequence, no expiry, no state stands before it.
    if (frame.id == Stop::ID) {
      // The same one again, while it still holds, is answered and counted once.
      if (reason_ != Reason::STOP || frame.sequence != stopped_by_) {
        latch(Reason::STOP);
        stopped_by_ = frame.sequence;
        if (executed_) executed_(frame);
      }
      if (frame.boot == boot_ && newer(frame.sequence)) remember(frame.sequence, Status::DONE);
      return answer(frame.sequence, Status::DONE, now);
    }
    if (frame.id == Hello::ID) return hello(frame, now);
    if (payload_size(frame.id) < 0 || frame.id >= 0x80) return answer(frame.sequence, Status::UNKNOWN, now);
    if (frame.boot != boot_) return answer(frame.sequence, Status::OTHER_BOOT, now);
    if (!newer(frame.sequence)) return answer(frame.sequence, result_of(frame.sequence), now);
    const Status status = obey(frame, now);
    remember(frame.sequence, status);
    if (status == Status::DONE) {
      fed_ = now;
      if (executed_) executed_(frame);
    }
    answer(frame.sequence, status, now);
  }

  // A new session begins with the motors off and takes its sequence from here on; the same hello again changes nothing.
  void hello(const Frame& frame, uint32_t now) {
    Hello hello;
    hello.read(frame.payload);
    if (hello.session != session_ || hello.session == 0) {
      latch(Reason::HELLO);
      session_ = hello.session;
      num_results_ = 0;
      last_ = frame.sequence;
      greeted_ = hello.table == TABLE_HASH;
      if (executed_) executed_(frame);
    }
    welcome(now, hello.session);
  }

  Status obey(const Frame& frame, uint32_t now) {
    if (!greeted_) return Status::OTHER_TABLE;
    switch (frame.id) {
      case Arm::ID: {
        Arm arm;
        arm.read(frame.payload);
        if (!in_time(arm.until_ms, now)) return Status::EXPIRED;
        if (arm.latch != latch_) return Status::STALE;
        state_ = State::ARMED;
        reason_ = Reason::NONE;
        return Status::DONE;
      }
      case Disarm::ID:
        latch(Reason::DISARM);
        return Status::DONE;
      case Drive::ID: {
        Drive drive;
        drive.read(frame.payload);
        if (!in_time(drive.until_ms, now)) return Status::EXPIRED;
        if (state_ != State::ARMED) return Status::DISARMED;
        if (beyond(drive.left_mm_s) || beyond(drive.right_mm_s)) return Status::BAD_VALUE;
        if (drive.fan > 100 || drive.brush > 100 || drive.side_brush > 100) return Status::BAD_VALUE;
        drive_ = drive;
        driven_ = now;
        ++num_drives_;
        steer(now);
        return Status::DONE;
      }
      default: {
        Beat beat;
        beat.read(frame.payload);
        return in_time(beat.until_ms, now) ? Status::DONE : Status::EXPIRED;
      }
    }
  }

  // The wheels' speeds from the last command and what the reflexes leave of it.
  void steer(uint32_t now) {
    if (state_ != State::ARMED) return;
    const bool forward = static_cast<int32_t>(drive_.left_mm_s) + drive_.right_mm_s > 0;
    const bool contact = inputs_.bump_left || inputs_.bump_right;
    const bool same = num_drives_ == held_drive_;  // what a reflex holds, the next command lets go
    cliff_holds_ = forward && (inputs_.cliff || (cliff_holds_ && same));
    bump_holds_ = forward && ((contact && now - driven_ > BUMP_MS) || (bump_holds_ && same));
    held_drive_ = num_drives_;
    const bool held = cliff_holds_ || bump_holds_;
    left_.set(held ? 0 : drive_.left_mm_s);
    right_.set(held ? 0 : drive_.right_mm_s);
  }

  void latch(Reason reason) {
    state_ = State::DISARMED;
    reason_ = reason;
    ++latch_;
    drive_ = Drive();
    left_.set(0);
    right_.set(0);
    cliff_holds_ = bump_holds_ = false;
  }

  static bool beyond(int16_t mm_s) { return mm_s > MAX_WHEEL_MM_S || mm_s < -MAX_WHEEL_MM_S; }
  static bool in_time(uint32_t until, uint32_t now) { return until - now <= MAX_AHEAD_MS; }
  bool newer(uint16_t sequence) const {
    const uint16_t ahead = sequence - last_;
    return ahead != 0 && ahead < 0x8000;
  }

  void remember(uint16_t sequence, Status status) {
    last_ = sequence;
    results_[next_result_] = {sequence, status};
    next_result_ = static_cast<uint8_t>((next_result_ + 1) % NUM_REMEMBERED);
    if (num_results_ < NUM_REMEMBERED) ++num_results_;
  }

  Status result_of(uint16_t sequence) const {
    for (uint8_t k = 1; k <= num_results_; ++k) {
      const Result& each = results_[(next_result_ + NUM_REMEMBERED - k) % NUM_REMEMBERED];
      if (each.sequence == sequence) return each.status;
    }
    return Status::STALE;
  }

  void answer(uint16_t of, Status status, uint32_t now) {
    Ack ack;
    ack.of = of;
    ack.status = static_cast<uint8_t>(status);
    ack.now_ms = now;
    send(ack);
  }

  void welcome(uint32_t now, uint16_t session) {
    Welcome w;
    w.table = TABLE_HASH;
    w.session = session;
    w.firmware = FIRMWARE;
    w.now_ms = now;
    send(w);
  }

  template <typename Message>
  void send(const Message& message) {
    uint8_t payload[Message::SIZE];
    uint8_t line[MAX_ON_LINE];
    message.write(payload);
    send_(line, encode(Message::ID, boot_, sent_++, payload, Message::SIZE, line));
  }

  struct Result {
    uint16_t sequence;
    Status status;
  };

  uint16_t boot_ = 0;
  State state_ = State::DISARMED;
  Reason reason_ = Reason::POWER_UP;
  uint8_t latch_ = 1;
  Send send_;
  Executed executed_;
  bool greeted_ = false;  // a hello with our table has come
  uint16_t session_ = 0;
  uint16_t last_ = 0;  // sequence number of the last command
  uint16_t stopped_by_ = 0;
  uint16_t sent_ = 0;
  Result results_[NUM_REMEMBERED];
  uint8_t num_results_ = 0, next_result_ = 0;
  uint32_t fed_ = 0, driven_ = 0, touched_ = 0;
  uint8_t num_drives_ = 0, held_drive_ = 0;
  bool cliff_holds_ = false, bump_holds_ = false;
  Drive drive_ = Drive();
  Inputs inputs_ = Inputs();
  Wheel left_, right_;
};

}  // namespace rover

#endif
