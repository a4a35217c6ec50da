// The rover's messages. Written by `python -m firmware_bridge.messages`; change the table there.
#ifndef ROVER_MESSAGES_H
#define ROVER_MESSAGES_H

#include <stdint.h>

namespace rover {

template <typename T>
T get(const uint8_t* from) {
  uint32_t bits = 0;
  for (uint8_t k = 0; k < sizeof(T); ++k) bits |= static_cast<uint32_t>(from[k]) << (8 * k);
  return static_cast<T>(bits);
}

template <typename T>
void put(uint8_t* to, T value) {
  const uint32_t bits = static_cast<uint32_t>(value);
  for (uint8_t k = 0; k < sizeof(T); ++k) to[k] = static_cast<uint8_t>(bits >> (8 * k));
}

constexpr uint32_t TABLE_HASH = 0x7f141555u;
constexpr uint8_t VERSION = 1;
constexpr int16_t MAX_WHEEL_MM_S = 500;
constexpr uint32_t DEAD_MAN_MS = 300;
constexpr uint32_t CONTROL_MS = 5;
constexpr uint32_t TELEMETRY_MS = 20;
constexpr uint32_t MAX_AHEAD_MS = 2000;
constexpr uint8_t MAX_PAYLOAD = 34;

enum class State : uint8_t {
  DISARMED = 0,
  ARMED = 1,
};

enum class Reason : uint8_t {
  NONE = 0,
  POWER_UP = 1,
  WATCHDOG = 2,
  HELLO = 3,
  DISARM = 4,
  STOP = 5,
  DEAD_MAN = 6,
};

enum class Status : uint8_t {
  DONE = 0,
  EXPIRED = 1,
  DISARMED = 2,
  STALE = 3,
  OTHER_BOOT = 4,
  BAD_VALUE = 5,
  UNKNOWN = 6,
  OTHER_TABLE = 7,
};

enum class Switch : uint8_t {
  BUMP_LEFT = 1,
  BUMP_RIGHT = 2,
  CLIFF = 4,
  WALL = 8,
  BUMP_HOLDS = 16,
  CLIFF_HOLDS = 32,
};

struct Hello {
  static constexpr uint8_t ID = 0x01;
  static constexpr uint8_t SIZE = 6;
  uint32_t table;  // hash
  uint16_t session;  // any number
  void read(const uint8_t* from) {
    table = get<uint32_t>(from + 0);
    session = get<uint16_t>(from + 4);
  }
};

struct Arm {
  static constexpr uint8_t ID = 0x02;
  static constexpr uint8_t SIZE = 5;
  uint32_t until_ms;  // ms of the rover's clock; later it is not obeyed
  uint8_t latch;  // as told by telemetry: the stop that this lifts
  void read(const uint8_t* from) {
    until_ms = get<uint32_t>(from + 0);
    latch = get<uint8_t>(from + 4);
  }
};

struct Disarm {
  static constexpr uint8_t ID = 0x03;
  static constexpr uint8_t SIZE = 0;
};

struct Stop {
  static constexpr uint8_t ID = 0x04;
  static constexpr uint8_t SIZE = 0;
};

struct Drive {
  static constexpr uint8_t ID = 0x05;
  static constexpr uint8_t SIZE = 11;
  uint32_t until_ms;  // ms of the rover's clock; later it is not obeyed
  int16_t left_mm_s;  // mm/s
  int16_t right_mm_s;  // mm/s
  uint8_t fan;  // %
  uint8_t brush;  // %
  uint8_t side_brush;  // %
  void read(const uint8_t* from) {
    until_ms = get<uint32_t>(from + 0);
    left_mm_s = get<int16_t>(from + 4);
    right_mm_s = get<int16_t>(from + 6);
    fan = get<uint8_t>(from + 8);
    brush = get<uint8_t>(from + 9);
    side_brush = get<uint8_t>(from + 10);
  }
};

struct Beat {
  static constexpr uint8_t ID = 0x06;
  static constexpr uint8_t SIZE = 4;
  uint32_t until_ms;  // ms of the rover's clock; later it is not obeyed
  void read(const uint8_t* from) {
    until_ms = get<uint32_t>(from + 0);
  }
};

struct Welcome {
  static constexpr uint8_t ID = 0x81;
  static constexpr uint8_t SIZE = 12;
  uint32_t table;  // hash
  uint16_t session;  // of the hello that it answers, 0 after power-up
  uint16_t firmware;  // version
  uint32_t now_ms;  // ms
  void write(uint8_t* to) const {
    put(to + 0, table);
    put(to + 4, session);
    put(to + 6, firmware);
    put(to + 8, now_ms);
  }
};

struct Ack {
  static constexpr uint8_t ID = 0x82;
  static constexpr uint8_t SIZE = 7;
  uint16_t of;  // sequence number of the command
  uint8_t status;  // Status
  uint32_t now_ms;  // ms
  void write(uint8_t* to) const {
    put(to + 0, of);
    put(to + 2, status);
    put(to + 3, now_ms);
  }
};

struct Telemetry {
  static constexpr uint8_t ID = 0x83;
  static constexpr uint8_t SIZE = 34;
  uint32_t now_ms;  // ms
  uint8_t state;  // State
  uint8_t reason;  // Reason
  uint8_t latch;  // number of times that the motors were latched off
  uint8_t switches;  // Switch
  int32_t left_counts;  // encoder counts
  int32_t right_counts;  // encoder counts
  int16_t left_mm_s;  // mm/s, as obeyed now
  int16_t right_mm_s;  // mm/s, as obeyed now
  uint8_t fan;  // %, as obeyed now
  uint8_t brush;  // %, as obeyed now
  uint8_t side_brush;  // %, as obeyed now
  uint16_t voltage_mv;  // mV
  uint16_t current_ma;  // mA out of the battery
  uint8_t dirt;  // dirt sensor, 0 to 255
  uint16_t sound;  // 0.1 dB(A)
  uint16_t heard;  // sequence number of the last command
  uint16_t bad;  // frames that were noise
  void write(uint8_t* to) const {
    put(to + 0, now_ms);
    put(to + 4, state);
    put(to + 5, reason);
    put(to + 6, latch);
    put(to + 7, switches);
    put(to + 8, left_counts);
    put(to + 12, right_counts);
    put(to + 16, left_mm_s);
    put(to + 18, right_mm_s);
    put(to + 20, fan);
    put(to + 21, brush);
    put(to + 22, side_brush);
    put(to + 23, voltage_mv);
    put(to + 25, current_ma);
    put(to + 27, dirt);
    put(to + 28, sound);
    put(to + 30, heard);
    put(to + 32, bad);
  }
};

// Bytes of a message's payload, or -1 for no such message.
inline int16_t payload_size(uint8_t id) {
  switch (id) {
    case 0x01: return 6;  // hello
    case 0x02: return 5;  // arm
    case 0x03: return 0;  // disarm
    case 0x04: return 0;  // stop
    case 0x05: return 11;  // drive
    case 0x06: return 4;  // beat
    case 0x81: return 12;  // welcome
    case 0x82: return 7;  // ack
    case 0x83: return 34;  // telemetry
    default: return -1;
  }
}

}  // namespace rover

#endif
