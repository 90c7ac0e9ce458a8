/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The UARTs of mtty, each behind 8 bytes of I/O space: port N is BAR N, at
 * N << 40 of the device fd. See lab.h.
 *
 * mtty's peculiarities: what is transmitted comes back at the receiver
 * (FIFO of 16, of which 15 can be told from empty); setting DLAB clears the
 * divisor, and writes to the divisor only add bits.
 */
#include "lab.h"

#include <string.h>
#include <unistd.h>

enum { DATA, IER, FCR, LCR, MCR, LSR, MSR, SCR }; /* divisor: DATA and IER while DLAB is set */

#define FCR_ENABLE_AND_CLEAR 0x07
#define LCR_DLAB 0x80
#define MCR_AFE 0x20
#define LSR_READY 0x01
#define LSR_OVERRUN 0x02
#define MSR_CTS 0x10
#define FIFO_MAX 15

struct uart {
	uint8_t ier, lcr, mcr, scr;
	uint16_t divisor;
	uint8_t fifo[FIFO_MAX];
	uint8_t count;
	bool overrun;
};

static void out(const struct lab_device *device, int port, int reg, uint8_t value)
{
	CHECK_EQ(pwrite(device->fd, &value, 1, ((off_t)port << 40) + reg), 1);
}

static uint8_t in(const struct lab_device *device, int port, int reg)
{
	uint8_t value = 0;

	CHECK_EQ(pread(device->fd, &value, 1, ((off_t)port << 40) + reg), 1);
	return value;
}

static uint8_t next(uint32_t *random)
{
	*random = *random * 1664525u + 1013904223u;
	return (uint8_t)(*random >> 24);
}

static struct uart pattern(unsigned int seed, int port)
{
	uint32_t random = seed * 2654435761u + (uint32_t)port * 40503u;
	struct uart uart;

	memset(&uart, 0, sizeof(uart));
	uart.ier = next(&random) & 0x0f;
	uart.lcr = LCR_DLAB | next(&random);
	uart.mcr = MCR_AFE | next(&random);
	uart.scr = next(&random);
	uart.divisor = (uint16_t)(next(&random) << 8 | next(&random));
	uart.count = (uint8_t)(2 + next(&random) % (FIFO_MAX - 1));
	for (int i = 0; i < uart.count; i++)
		uart.fifo[i] = next(&random);
	uart.overrun = (seed + (unsigned int)port) % 2;
	return uart;
}

static void fill(const struct lab_device *device, int port, const struct uart *uart)
{
	out(device, port, LCR, 0);
	out(device, port, FCR, FCR_ENABLE_AND_CLEAR);
	for (int i = 0; i < uart->count; i++)
		out(device, port, DATA, uart->fifo[i]);
	if (uart->overrun) {
		/* A FIFO of one is full: the next byte is lost, and that is state too. */
		out(device, port, FCR, 0);
		out(device, port, DATA, 0xee);
	}
	out(device, port, IER, uart->ier);
	out(device, port, MCR, uart->mcr);
	out(device, port, SCR, uart->scr);
	/* DLAB stays set: setting it to read the divisor would clear it. */
	out(device, port, LCR, uart->lcr);
	out(device, port, DATA, (uint8_t)uart->divisor);
	out(device, port, IER, (uint8_t)(uart->divisor >> 8));
}

static struct uart look(const struct lab_device *device, int port)
{
	struct uart uart;
	bool cts;

	memset(&uart, 0, sizeof(uart));
	uart.lcr = in(device, port, LCR);
	uart.mcr = in(device, port, MCR);
	uart.scr = in(device, port, SCR);
	uart.overrun = in(device, port, LSR) & LSR_OVERRUN;
	cts = in(device, port, MSR) & MSR_CTS;
	if (uart.lcr & LCR_DLAB)
		uart.divisor = (uint16_t)(in(device, port, DATA) | in(device, port, IER) << 8);
	out(device, port, LCR, 0);
	uart.ier = in(device, port, IER);
	while (uart.count < FIFO_MAX && in(device, port, LSR) & LSR_READY)
		uart.fifo[uart.count++] = in(device, port, DATA);
	/* With AFE, CTS says whether there is room: the FIFO's size, which is not readable itself. */
	if (cts == uart.overrun)
		uart.count = 0xff;
	return uart;
}

void uart_fill(const struct lab_device *device, int ports, unsigned int seed)
{
	for (int port = 0; port < ports; port++) {
		const struct uart uart = pattern(seed, port);

		fill(device, port, &uart);
	}
}

static bool equal(const struct uart *a, const struct uart *b)
{
	return a->ier == b->ier && a->lcr == b->lcr && a->mcr == b->mcr && a->scr == b->scr &&
	       a->divisor == b->divisor && a->count == b->count && a->overrun == b->overrun &&
	       !memcmp(a->fifo, b->fifo, sizeof(a->fifo));
}

bool uart_holds(const struct lab_device *device, int ports, unsigned int seed)
{
	bool all = true;

	for (int port = 0; port < ports; port++) {
		const struct uart want = pattern(seed, port);
		const struct uart got = look(device, port);

		all &= equal(&want, &got);
	}
	return all;
}
