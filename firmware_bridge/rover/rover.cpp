// The rover's hardware: pins, timers, interrupts, watchdog. What it does with them is in protocol.h.
// ATmega328P with ADC6 and ADC7 (Arduino Nano), 16 MHz. Wiring: docs/rover.md.
#include <Arduino.h>
#include <avr/eeprom.h>
#include <avr/sleep.h>
#include <avr/wdt.h>

#include "protocol.h"

using namespace rover;

// Port B: wheels. Their PWM is timer 1, 8 kHz.
constexpr uint8_t LEFT_BACK = _BV(PB0), LEFT_PWM = _BV(PB1), RIGHT_PWM = _BV(PB2), RIGHT_BACK = _BV(PB4);
constexpr uint8_t SIDE_BRUSH = _BV(PB3), ENABLE = _BV(PB5);
// Port D: encoders (A on an interrupt, B beside it), suction and main brush on timer 0.
constexpr uint8_t LEFT_A = _BV(PD2), RIGHT_A = _BV(PD3), LEFT_B = _BV(PD4), RIGHT_B = _BV(PD7);
constexpr uint8_t FAN = _BV(PD5), BRUSH = _BV(PD6);
// Port C: switches, high when pressed and high when the wire is off.
constexpr uint8_t BUMP_LEFT = _BV(PC2), BUMP_RIGHT = _BV(PC3), CLIFF = _BV(PC4), WALL = _BV(PC5);
constexpr uint8_t ADC_SOUND = 0, ADC_DIRT = 1, ADC_VOLTAGE = 6, ADC_CURRENT = 7;

static void motors_off() {
  PORTB &= ~(ENABLE | LEFT_PWM | RIGHT_PWM | SIDE_BRUSH);
  TCCR1A = _BV(WGM11);
  TCCR0A = _BV(WGM01) | _BV(WGM00);
  TCCR2A = _BV(WGM20);
  OCR1A = OCR1B = 0;
  PORTD &= ~(FAN | BRUSH);
  DDRB |= ENABLE | LEFT_PWM | RIGHT_PWM | LEFT_BACK | RIGHT_BACK | SIDE_BRUSH;
  DDRD |= FAN | BRUSH;
}

static uint8_t reset_cause __attribute__((section(".noinit")));

// Before main: after a watchdog reset the watchdog is still on, at its shortest.
void look_at_reset() __attribute__((naked, used, section(".init3")));
void look_at_reset() {
  reset_cause = MCUSR;
  MCUSR = 0;
  wdt_disable();
}

static volatile int32_t left_counts, right_counts;

ISR(INT0_vect) {
  const uint8_t pins = PIND;
  if (!(pins & LEFT_A) != !(pins & LEFT_B)) ++left_counts;
  else --left_counts;
}

ISR(INT1_vect) {
  const uint8_t pins = PIND;
  if (!(pins & RIGHT_A) != !(pins & RIGHT_B)) ++right_counts;
  else --right_counts;
}

// What does not fit into the buffer is not sent: waiting would hold up the motors' loop. The host counts the gap.
static void send(const uint8_t* bytes, uint8_t size) {
  if (Serial.availableForWrite() >= size) Serial.write(bytes, size);
}

static Rover robot(send);
static Inputs inputs;

static uint16_t next_boot() {
  static uint16_t* const place = nullptr;  // the first two bytes of the EEPROM
  uint16_t boot = eeprom_read_word(place) + 1;
  if (boot == 0) boot = 1;  // 0 is a host's "not known yet"
  eeprom_update_word(place, boot);
  return boot;
}

static uint16_t convert(uint8_t channel) {
  ADMUX = _BV(REFS0) | channel;
  ADCSRA |= _BV(ADSC);
  while (ADCSRA & _BV(ADSC)) {
  }
  return ADC;
}

static void read_switches() {
  const uint8_t pins = PINC;
  inputs.bump_left = pins & BUMP_LEFT;
  inputs.bump_right = pins & BUMP_RIGHT;
  inputs.cliff = pins & CLIFF;
  inputs.wall = pins & WALL;
  noInterrupts();
  inputs.left_counts = left_counts;
  inputs.right_counts = right_counts;
  interrupts();
}

static void read_levels() {
  inputs.voltage_mv = convert(ADC_VOLTAGE) * 20 + 10;  // divider 4.096 : 1
  inputs.current_ma = convert(ADC_CURRENT) * 4 + 2;    // amplifier 5 V at 4.096 A
  inputs.dirt = static_cast<uint8_t>(convert(ADC_DIRT) >> 2);
  inputs.sound = static_cast<uint16_t>(convert(ADC_SOUND) * 625UL / 256);  // 50 dB(A) a volt
}

static void set_duty(volatile uint8_t& control, uint8_t connect, volatile uint8_t& compare, uint8_t percent) {
  if (percent == 0) {
    control &= ~connect;  // the pin is low; at compare 0 timer 0 would still give a spike
  } else {
    compare = static_cast<uint8_t>((percent * 255U + 50) / 100);
    control |= connect;
  }
}

static void set_motors(const Outputs& o) {
  if (!o.enabled) return motors_off();
  if (o.left < 0) PORTB |= LEFT_BACK;
  else PORTB &= ~LEFT_BACK;
  if (o.right < 0) PORTB |= RIGHT_BACK;
  else PORTB &= ~RIGHT_BACK;
  OCR1A = o.left < 0 ? -o.left : o.left;
  OCR1B = o.right < 0 ? -o.right : o.right;
  TCCR1A = _BV(COM1A1) | _BV(COM1B1) | _BV(WGM11);
  set_duty(TCCR0A, _BV(COM0B1), OCR0B, o.fan);
  set_duty(TCCR0A, _BV(COM0A1), OCR0A, o.brush);
  set_duty(TCCR2A, _BV(COM2A1), OCR2A, o.side_brush);
  PORTB |= ENABLE;
}

void setup() {
  motors_off();
  wdt_enable(WDTO_120MS);
  // Phase-correct, so that duty 0 is off.
  ICR1 = FULL_DUTY;
  TCCR1B = _BV(WGM13) | _BV(CS10);
  PORTC |= BUMP_LEFT | BUMP_RIGHT | CLIFF | WALL;  // pull-ups
  PORTD |= LEFT_A | LEFT_B | RIGHT_A | RIGHT_B;
  EICRA = _BV(ISC00) | _BV(ISC10);  // either edge
  EIFR = _BV(INTF0) | _BV(INTF1);
  EIMSK = _BV(INT0) | _BV(INT1);
  Serial.begin(115200);
  set_sleep_mode(SLEEP_MODE_IDLE);
  robot.begin(next_boot(), (reset_cause & _BV(WDRF)) ? Reason::WATCHDOG : Reason::POWER_UP, millis());
}

void loop() {
  static uint32_t controlled = 0, reported = 0;
  static Outputs done = Outputs();
  for (uint8_t n = 0; n < 64 && Serial.available() > 0; ++n) {
    robot.receive(static_cast<uint8_t>(Serial.read()), millis());
#ifdef ROVER_CAN_HANG
    if (robot.parser.frame.id == 0x7f) {
      for (;;) {
      }
    }
#endif
  }
  const uint32_t now = millis();
  robot.watch(now);
  if (now - controlled >= CONTROL_MS) {
    controlled += CONTROL_MS;
    read_switches();
    robot.control(now, inputs);
    wdt_reset();
  }
  const Outputs wanted = robot.outputs();
  if (!(wanted == done)) set_motors(done = wanted);
  if (now - reported >= TELEMETRY_MS) {
    reported += TELEMETRY_MS;
    read_switches();
    read_levels();
    robot.report(now, inputs);
  }
  sleep_mode();  // until the next interrupt: a byte, an encoder, or the clock's, each millisecond
}
