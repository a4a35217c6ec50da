// One wheel: a speed in, a signed duty out, kept to its speed by the encoder. Integers only; called every CONTROL_MS.
#ifndef ROVER_WHEEL_H
#define ROVER_WHEEL_H

#include <stdint.h>

#include "messages.h"

namespace rover {

constexpr int16_t FULL_DUTY = 1000;
constexpr int16_t FULL_MM_S = 625;  // of a nominal motor at full duty: a quarter more than is asked of it

class Wheel {
 public:
  void set(int16_t mm_s) {
    if (mm_s == target_) return;
    target_ = mm_s;
    steady_ = 0;
    push(0);
  }

  // counts: the encoder. free: the wheel rolls forward and nothing is in its way, so that what it does tells of the
  // motor. Feed-forward and a trim that learns (I), with a push until the next look (P), both in 1/4096 of the duty.
  void tick(int32_t counts, bool free) {
    if (!free) {
      steady_ = 0;
      if (push_ != 0) push(0);
      return;
    }
    if (steady_ < LAG_TICKS) {
      if (++steady_ == LAG_TICKS) begin(counts);
      return;
    }
    if (++looked_ < LOOK_TICKS) return;
    // 240 ms at 0.444564 mm a count.
    const int32_t expected = (static_cast<int32_t>(target_) * 35380) >> 16;
    int32_t error = expected - (counts - since_);
    begin(counts);
    // Two counts and two in a hundred are the encoder's grain and a tyre's slip along a wall.
    const int32_t grain = 2 + expected / 48;
    if (error >= -grain && error <= grain) return push(0);
    error = limit(error, expected + 1);
    const int32_t share = error * 4096 / (expected + 1);
    trim_ = limit(trim_ + share / 2, MAX_TRIM);
    push(share / 8);
  }

  int16_t target() const { return target_; }

  int16_t duty() const { return duty_; }

 private:
  static constexpr uint8_t LAG_TICKS = 30;   // 150 ms: a motor of 40 ms has come to a new speed
  static constexpr uint8_t LOOK_TICKS = 48;  // 240 ms: a count is 2 mm/s
  static constexpr int32_t MAX_TRIM = 1638;  // 40%

  static int32_t limit(int32_t value, int32_t most) { return value > most ? most : value < -most ? -most : value; }

  void push(int32_t share) {
    push_ = share;
    work_out();
  }

  // Divisions of 32 bits cost the chip 600 cycles each: only when something has changed.
  void work_out() {
    const int32_t whole = static_cast<int32_t>(target_) * FULL_DUTY;
    // Rounded away from zero alike in both directions.
    const int32_t base = (whole + (whole < 0 ? -FULL_MM_S / 2 : FULL_MM_S / 2)) / FULL_MM_S;
    duty_ = static_cast<int16_t>(limit(base + base * (trim_ + push_) / 4096, FULL_DUTY));
  }

  void begin(int32_t counts) {
    since_ = counts;
    looked_ = 0;
  }

  int16_t target_ = 0;
  int16_t duty_ = 0;
  uint8_t steady_ = 0;
  uint8_t looked_ = 0;
  int32_t since_ = 0;
  int32_t trim_ = 0;
  int32_t push_ = 0;
};

}  // namespace rover

#endif
