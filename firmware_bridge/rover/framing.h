// Frames on the line: COBS between zeros, CRC-16/CCITT-FALSE, version, boot, sequence. See firmware_bridge/framing.py.
// No clock, no port, no heap; the parser holds at most one frame.
#ifndef ROVER_FRAMING_H
#define ROVER_FRAMING_H

#include <stdint.h>

#include "messages.h"

namespace rover {

constexpr uint8_t HEAD = 6;
constexpr uint8_t MAX_BODY = HEAD + MAX_PAYLOAD + 2;
constexpr uint8_t MAX_ENCODED = MAX_BODY + 1;  // bodies are shorter than 254: one code byte
constexpr uint8_t MAX_ON_LINE = MAX_ENCODED + 2;
static_assert(HEAD + MAX_PAYLOAD + 2 < 254, "one block of COBS");

inline uint16_t crc16(const uint8_t* data, uint8_t size) {
  uint16_t crc = 0xffff;
  for (uint8_t i = 0; i < size; ++i) {
    // S. Hazelwood's byte at a time for 0x1021, without a table: flash and cycles are scarce.
    uint8_t x = static_cast<uint8_t>(crc >> 8) ^ data[i];
    x = static_cast<uint8_t>(x ^ (x >> 4));
    crc = static_cast<uint16_t>((crc << 8) ^ (static_cast<uint16_t>(x) << 12) ^ (static_cast<uint16_t>(x) << 5) ^ x);
  }
  return crc;
}

struct Frame {
  uint8_t id;
  uint16_t boot;
  uint16_t sequence;
  uint8_t size;
  const uint8_t* payload;  // inside the parser, until the next byte
};

// Writes a whole frame to `to`, which has MAX_ON_LINE bytes, and returns its length.
inline uint8_t encode(uint8_t id, uint16_t boot, uint16_t sequence, const uint8_t* payload, uint8_t size, uint8_t* to) {
  uint8_t body[MAX_BODY];
  body[0] = VERSION;
  body[1] = id;
  put(body + 2, boot);
  put(body + 4, sequence);
  for (uint8_t i = 0; i < size; ++i) body[HEAD + i] = payload[i];
  const uint8_t length = HEAD + size;
  put(body + length, crc16(body, length));
  uint8_t at = 0;
  to[at++] = 0;
  uint8_t code_at = at++;
  for (uint8_t i = 0; i < length + 2; ++i) {
    if (body[i] == 0) {
      to[code_at] = at - code_at;
      code_at = at++;
    } else {
      to[at++] = body[i];
    }
  }
  to[code_at] = at - code_at;
  to[at++] = 0;
  return at;
}

struct Counts {
  uint32_t frames, overlong, broken, crc, version, length;
  uint32_t bad() const { return overlong + broken + crc + version + length; }
};

class Parser {
 public:
  // Takes a byte. True when it completes a frame, which then stands in `frame` until the next byte.
  bool feed(uint8_t byte) {
    if (byte != 0) {
      if (overlong_) return false;
      if (held_ == MAX_ENCODED) {
        overlong_ = true;
        ++counts.overlong;
      } else {
        buffer_[held_++] = byte;
      }
      return false;
    }
    const uint8_t size = held_;
    const bool whole = size != 0 && !overlong_;
    held_ = 0;
    overlong_ = false;
    return whole && open(size);
  }

  uint8_t num_held() const { return overlong_ ? 0 : held_; }

  Frame frame = Frame();
  Counts counts = Counts();

 private:
  // COBS in place, then the checks in the order of the Python parser.
  bool open(uint8_t size) {
    uint8_t out = 0;
    for (uint8_t in = 0; in < size;) {
      const uint8_t code = buffer_[in];
      if (code > size - in) {
        ++counts.broken;
        return false;
      }
      for (uint8_t k = 1; k < code; ++k) buffer_[out++] = buffer_[in + k];
      in += code;
      if (in < size) buffer_[out++] = 0;
    }
    if (out < HEAD + 2) {
      ++counts.broken;
      return false;
    }
    const uint8_t length = out - 2;
    if (crc16(buffer_, length) != get<uint16_t>(buffer_ + length)) {
      ++counts.crc;
      return false;
    }
    if (buffer_[0] != VERSION) {
      ++counts.version;
      return false;
    }
    frame.id = buffer_[1];
    frame.boot = get<uint16_t>(buffer_ + 2);
    frame.sequence = get<uint16_t>(buffer_ + 4);
    frame.size = length - HEAD;
    frame.payload = buffer_ + HEAD;
    const int16_t expected = payload_size(frame.id);
    if (expected >= 0 && expected != frame.size) {
      ++counts.length;
      return false;
    }
    ++counts.frames;
    return true;
  }

  uint8_t buffer_[MAX_ENCODED];
  uint8_t held_ = 0;
  bool overlong_ = false;
};

}  // namespace rover

#endif
