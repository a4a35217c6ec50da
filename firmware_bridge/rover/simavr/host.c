/* The rover's firmware in simavr: an ATmega328P with its line, pins, encoders and analog inputs, in virtual time.
 *
 * The caller owns time, plant and port: it runs the chip to a cycle, reads what the motors are told, and sets what the
 * sensors say. Nothing here looks at a clock, so the same calls give the same bytes. firmware_bridge/emulators/rover.py
 * calls it, paced or as fast as it goes.
 */
#include <avr_adc.h>
#include <avr_ioport.h>
#include <avr_uart.h>
#include <sim_avr.h>
#include <sim_elf.h>
#include <stdlib.h>
#include <string.h>

#define LINE_CYCLES 1389 /* a byte at 115200 8N1 */
#define ROOM 65536
#define STRIDE 64 /* cycles in one go, 4 us: what a change of the motors is stamped to */
#define START_UP 1040000 /* 65 ms from a reset to the first instruction, by the fuses of the board */

/* Data addresses of an ATmega328P. */
enum {
  PORT_B = 0x25, PORT_D = 0x2b, TCCR0 = 0x44, OCR0_A = 0x47, OCR0_B = 0x48, TCCR1 = 0x80, OCR1_A = 0x88,
  OCR1_B = 0x8a, TCCR2 = 0xb0, OCR2_A = 0xb3
};
#define COM_A 0x80
#define COM_B 0x20

typedef struct {
  avr_t* avr;
  void (*reset)(avr_t*);
  avr_cycle_count_t grid, held_until, until;
  int was_reset, num_resets, crashed;
  /* line */
  avr_irq_t* in;
  int xon;
  uint8_t queue[ROOM];
  unsigned first, last;
  avr_cycle_count_t heard; /* when the last byte went in */
  uint8_t out[ROOM];
  uint64_t stamps[ROOM];
  unsigned num_out;
  uint64_t num_dropped;
  /* pins of ports B, C, D as driven from outside */
  uint8_t level[3];
  int edges[2];
  avr_cycle_count_t edge_cycles;
  /* motors */
  int moving;
  avr_cycle_count_t changed;
} host_t;

static host_t* only; /* that runs now: the reset callback of simavr has no parameter of its own */

static void quiet(avr_t* avr, const int level, const char* format, va_list list) {}

static void no_sleep(avr_t* avr, avr_cycle_count_t cycles) {}

static void on_reset(avr_t* avr) {
  if (only->reset) only->reset(avr);
  only->was_reset = 1;
}

static void on_output(avr_irq_t* irq, uint32_t value, void* param) {
  host_t* h = param;
  if (h->num_out == ROOM) {
    ++h->num_dropped;
    return;
  }
  h->stamps[h->num_out] = h->avr->cycle;
  h->out[h->num_out++] = value;
}

static void on_xon(avr_irq_t* irq, uint32_t value, void* param) { ((host_t*)param)->xon = 1; }
static void on_xoff(avr_irq_t* irq, uint32_t value, void* param) { ((host_t*)param)->xon = 0; }

static avr_cycle_count_t pump(avr_t* avr, avr_cycle_count_t when, void* param) {
  host_t* h = param;
  if (h->first == h->last) return 0;
  if (h->xon) {
    avr_raise_irq(h->in, h->queue[h->first++ % ROOM]);
    h->heard = avr->cycle;
  }
  return when + LINE_CYCLES;
}

static void drive_port(host_t* h, int port) {
  /* Undriven bits keep what the chip makes of them. */
  static const uint8_t masks[3] = {0, 0x3c, 0x9c};
  avr_ioport_external_t external = {.name = 'B' + port, .mask = masks[port], .value = h->level[port]};
  avr_ioctl(h->avr, AVR_IOCTL_IOPORT_SET_EXTERNAL('B' + port), &external);
  for (int bit = 0; bit < 8; ++bit)
    if (masks[port] & (1 << bit))
      avr_raise_irq(avr_io_getirq(h->avr, AVR_IOCTL_IOPORT_GETIRQ('B' + port), bit), (h->level[port] >> bit) & 1);
}

static void set_bit(host_t* h, int port, int bit, int level) {
  if (((h->level[port] >> bit) & 1) == level) return;
  h->level[port] ^= 1 << bit;
  drive_port(h, port);
}

/* A is high until firmware listens to its edges: simavr looks at a low INT pin in every cycle, for ever. */
static void begin_pins(host_t* h) {
  h->level[2] |= 0x0c;
  drive_port(h, 1);
  drive_port(h, 2);
}

/* One edge of an encoder: B first, then A, as firmware reads them. */
static void edge(host_t* h, int wheel) {
  static const int a[2] = {2, 3}, b[2] = {4, 7};
  if (h->edges[wheel] == 0) return;
  const int forward = h->edges[wheel] > 0;
  h->edges[wheel] += forward ? -1 : 1;
  const int level = !((h->level[2] >> a[wheel]) & 1);
  set_bit(h, 2, b[wheel], forward ? !level : level);
  set_bit(h, 2, a[wheel], level);
}

static avr_cycle_count_t turn(avr_t* avr, avr_cycle_count_t when, void* param) {
  host_t* h = param;
  edge(h, 0);
  edge(h, 1);
  return h->edges[0] || h->edges[1] ? when + h->edge_cycles : 0;
}

static avr_cycle_count_t at_end(avr_t* avr, avr_cycle_count_t when, void* param) { return 0; }

static int wheel_duty(host_t* h, int connected, int at) {
  const uint8_t* d = h->avr->data;
  return d[TCCR1] & connected ? d[at] | d[at + 1] << 8 : 0;
}

static int in_motion(host_t* h) {
  const uint8_t* d = h->avr->data;
  if (d[PORT_B] & 0x20 && (wheel_duty(h, COM_A, OCR1_A) || wheel_duty(h, COM_B, OCR1_B))) return 1;
  return (d[TCCR0] & (COM_A | COM_B)) || (d[TCCR2] & COM_A);
}

static void look(host_t* h) {
  const int moving = in_motion(h);
  if (moving != h->moving) {
    h->moving = moving;
    h->changed = h->avr->cycle;
  }
}

/* After a reset simavr has forgotten its timers and pins. The chip starts on a multiple of `grid` cycles. */
static void after_reset(host_t* h) {
  h->was_reset = 0;
  ++h->num_resets;
  look(h);
  const avr_cycle_count_t least = h->avr->cycle + START_UP;
  h->held_until = (least + h->grid - 1) / h->grid * h->grid;
  /* What the reset has wound up, the watchdog, starts to run with the chip. */
  for (avr_cycle_timer_slot_p slot = h->avr->cycle_timers.timer; slot; slot = slot->next)
    slot->when += h->held_until - h->avr->cycle;
  h->first = h->last; /* what is on the line meanwhile nobody hears */
  h->edges[0] = h->edges[1] = 0;
  h->xon = 1;
  begin_pins(h);
}

static void wake(host_t* h) {
  if (h->first != h->last) avr_cycle_timer_register(h->avr, LINE_CYCLES, pump, h);
}

host_t* rover_open(const char* path, uint64_t grid) {
  avr_global_logger_set(quiet);
  elf_firmware_t firmware;
  memset(&firmware, 0, sizeof firmware);
  if (elf_read_firmware(path, &firmware)) return NULL;
  strcpy(firmware.mmcu, "atmega328p");
  firmware.frequency = 16000000;
  avr_t* avr = avr_make_mcu_by_name(firmware.mmcu);
  if (!avr) return NULL;
  host_t* h = only = calloc(1, sizeof *h);
  h->avr = avr;
  h->grid = grid;
  h->xon = 1;
  avr_init(avr);
  avr_load_firmware(avr, &firmware);
  avr->log = LOG_NONE;
  avr->vcc = avr->avcc = avr->aref = 5000;
  avr->sleep = no_sleep;
  avr->run_cycle_limit = STRIDE;
  h->reset = avr->reset;
  avr->reset = on_reset;
  uint32_t flags = 0;
  avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
  h->in = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
  avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_output, h);
  avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_xon, h);
  avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_xoff, h);
  begin_pins(h);
  return h;
}

void rover_close(host_t* h) {
  avr_terminate(h->avr);
  free(h->avr);
  free(h);
}

/* Runs to a cycle, give or take a stride. -1 when the chip has crashed. */
int rover_run(host_t* h, uint64_t until) {
  avr_t* avr = h->avr;
  only = h;
  while (avr->cycle < until) {
    if (h->crashed) return -1;
    if (avr->cycle < h->held_until) {
      avr->cycle = until < h->held_until ? until : h->held_until;
      continue;
    }
    if (h->until != until) { /* a sleep must not last beyond it */
      h->until = until;
      avr_cycle_timer_register(avr, until - avr->cycle, at_end, h);
    }
    const int state = avr_run(avr);
    if (h->was_reset) after_reset(h);
    else look(h);
    if (state == cpu_Done || state == cpu_Crashed) h->crashed = 1;
  }
  return h->crashed ? -1 : 0;
}

/* Bytes to the line, one each LINE_CYCLES. How many found room. */
unsigned rover_send(host_t* h, const uint8_t* bytes, unsigned size) {
  const int idle = h->first == h->last;
  unsigned n = 0;
  if (h->avr->cycle < h->held_until) return size;
  while (n < size && h->last - h->first < ROOM) h->queue[h->last++ % ROOM] = bytes[n++];
  if (idle) wake(h);
  return n;
}

/* What the line gave since the last call; stamps are cycles. */
unsigned rover_take(host_t* h, uint8_t* bytes, uint64_t* stamps) {
  const unsigned n = h->num_out;
  memcpy(bytes, h->out, n);
  if (stamps) memcpy(stamps, h->stamps, n * sizeof *stamps);
  h->num_out = 0;
  return n;
}

/* The encoders turn by so many counts, an edge each `cycles`. */
void rover_turn(host_t* h, int left, int right, uint64_t cycles) {
  h->edges[0] += left;
  h->edges[1] += right;
  h->edge_cycles = cycles;
  if (h->avr->cycle < h->held_until) h->edges[0] = h->edges[1] = 0;
  if (h->edges[0] || h->edges[1]) avr_cycle_timer_register(h->avr, cycles, turn, h);
}

/* Bits: bump left, bump right, cliff, wall. */
void rover_switches(host_t* h, int bits) {
  for (int k = 0; k < 4; ++k) set_bit(h, 1, 2 + k, (bits >> k) & 1);
}

void rover_level(host_t* h, int channel, unsigned millivolts) {
  avr_raise_irq(avr_io_getirq(h->avr, AVR_IOCTL_ADC_GETIRQ, ADC_IRQ_ADC0 + channel), millivolts);
}

/* enabled, left and right duty (signed), fan, brush, side brush (0 to 255). */
void rover_motors(host_t* h, int* to) {
  const uint8_t* d = h->avr->data;
  to[0] = (d[PORT_B] >> 5) & 1;
  to[1] = wheel_duty(h, COM_A, OCR1_A) * (d[PORT_B] & 0x01 ? -1 : 1);
  to[2] = wheel_duty(h, COM_B, OCR1_B) * (d[PORT_B] & 0x10 ? -1 : 1);
  to[3] = d[TCCR0] & COM_B ? d[OCR0_B] : 0;
  to[4] = d[TCCR0] & COM_A ? d[OCR0_A] : 0;
  to[5] = d[TCCR2] & COM_A ? d[OCR2_A] : 0;
}

void rover_reset(host_t* h) {
  only = h;
  avr_reset(h->avr);
  after_reset(h);
}

uint64_t rover_cycle(host_t* h) { return h->avr->cycle; }
uint64_t rover_heard(host_t* h) { return h->heard; }     /* cycle of the last byte that went in */
uint64_t rover_changed(host_t* h) { return h->changed; } /* cycle in which the motors last began or ceased to turn */
int rover_moving(host_t* h) { return h->moving; }
int rover_num_resets(host_t* h) { return h->num_resets; }
unsigned rover_pending(host_t* h) { return h->last - h->first; }
