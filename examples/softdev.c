/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The hardware half of the software device: see softdev.h. */

#include "softdev-private.h"

#include "checksum.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define TICK_NS 1000000u
#define TICKS_PER_SECOND (1000000000u / TICK_NS)
#define BURST 8u /* 64-bit words of one DMA write */

static uint64_t next_random(struct softdev *dev)
{
    uint64_t *r = &registers_of(dev)->random; /* part of the state, so that the device goes on where it was */
    *r = *r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *r >> 16;
}

void softdev_changed(struct softdev *dev, size_t block)
{
    if (dev->session.open && is_running(dev->state) && dev->mark[block] == CLEAN) {
        dev->mark[block] = AGAIN;
        dev->session.marked[CLEAN]--;
        dev->session.marked[AGAIN]++;
    }
}

static void write_own_memory(struct softdev *dev)
{
    for (uint64_t n = dev->state_rate / BLOCK / TICKS_PER_SECOND; n > 0; n--) {
        size_t block = next_random(dev) % dev->blocks;
        dev->memory[block * BLOCK + BLOCK - 1]++;
        softdev_changed(dev, block);
    }
}

static void write_guest_memory(struct softdev *dev)
{
    for (uint64_t n = dev->dma_rate / BLOCK / TICKS_PER_SECOND; n > 0; n--) {
        size_t page = next_random(dev) % dev->ram_pages;
        _Atomic uint64_t *to = dev->ram + page * (BLOCK / sizeof *to);
        for (size_t i = 0; i < BURST; i++) {
            atomic_store_explicit(&to[i], registers_of(dev)->ticks + i, memory_order_relaxed);
        }
        /* First the write, then the log: the other way round a harvest between the two would lose the page. */
        if (dev->logging) {
            dev->log[page / 64] |= UINT64_C(1) << (page % 64);
        }
    }
}

static void *work(void *opaque)
{
    struct softdev *dev = opaque;
    const struct timespec tick = {.tv_nsec = TICK_NS};
    for (;;) {
        pthread_mutex_lock(&dev->lock);
        bool quit = dev->quit;
        /* P2P states too: v2 stops only peer-to-peer DMA there, guest RAM may still be written. */
        if (is_running(dev->state) && registers_of(dev)->enabled != 0) {
            registers_of(dev)->ticks++;
            write_guest_memory(dev);
            write_own_memory(dev);
            softdev_changed(dev, 0);
        }
        pthread_mutex_unlock(&dev->lock);
        if (quit) {
            return NULL;
        }
        nanosleep(&tick, NULL);
    }
}

struct softdev *softdev_new(const struct softdev_config *config)
{
    struct softdev *dev = calloc(1, sizeof *dev);
    if (dev == NULL) {
        return NULL;
    }
    dev->state = VFIOMIG_STATE_RUNNING;
    dev->blocks = config->state_bytes / BLOCK + (config->state_bytes % BLOCK != 0 || config->state_bytes == 0);
    dev->state_rate = config->state_rate;
    dev->ram = config->ram;
    dev->ram_pages = config->ram_bytes / BLOCK;
    dev->dma_rate = dev->ram_pages > 0 ? config->dma_rate : 0;
    dev->memory = calloc(dev->blocks, BLOCK);
    dev->mark = calloc(dev->blocks, 1);
    dev->log = calloc(dev->ram_pages / 64 + 1, sizeof *dev->log);
    pthread_mutex_init(&dev->lock, NULL);
    if (dev->memory == NULL || dev->mark == NULL || dev->log == NULL ||
        pthread_create(&dev->worker, NULL, work, dev) != 0) {
        free(dev->memory);
        free(dev->mark);
        free(dev->log);
        pthread_mutex_destroy(&dev->lock);
        free(dev);
        return NULL;
    }
    return dev;
}

void softdev_free(struct softdev *dev)
{
    if (dev == NULL) {
        return;
    }
    pthread_mutex_lock(&dev->lock);
    dev->quit = true;
    pthread_mutex_unlock(&dev->lock);
    pthread_join(dev->worker, NULL);
    pthread_mutex_destroy(&dev->lock);
    free(dev->memory);
    free(dev->mark);
    free(dev->log);
    free(dev);
}

/* The vCPU's side of both registers. V2-8: nobody may touch a device in a P2P state, or one that is stopped. */
static void mmio_write(struct softdev *dev, uint64_t *reg, uint64_t value)
{
    pthread_mutex_lock(&dev->lock);
    if (dev->state == VFIOMIG_STATE_RUNNING || dev->state == VFIOMIG_STATE_PRE_COPY) {
        *reg = value;
        softdev_changed(dev, 0);
    } else {
        dev->violations++;
    }
    pthread_mutex_unlock(&dev->lock);
}

void softdev_mmio_enable(struct softdev *dev)
{
    mmio_write(dev, &registers_of(dev)->enabled, 1);
}

void softdev_mmio_doorbell(struct softdev *dev, uint64_t value)
{
    mmio_write(dev, &registers_of(dev)->doorbell, value);
}

static uint64_t locked_read(struct softdev *dev, const uint64_t *from)
{
    pthread_mutex_lock(&dev->lock);
    uint64_t value = *from;
    pthread_mutex_unlock(&dev->lock);
    return value;
}

uint64_t softdev_violations(struct softdev *dev)
{
    return locked_read(dev, &dev->violations);
}

uint64_t softdev_ticks(struct softdev *dev)
{
    return locked_read(dev, &registers_of(dev)->ticks);
}

static void set_logging(struct softdev *dev, bool on)
{
    pthread_mutex_lock(&dev->lock);
    dev->logging = on;
    for (size_t word = 0; word < dev->ram_pages / 64 + 1; word++) {
        dev->log[word] = 0;
    }
    pthread_mutex_unlock(&dev->lock);
}

void softdev_log_start(struct softdev *dev)
{
    set_logging(dev, true);
}

void softdev_log_stop(struct softdev *dev)
{
    set_logging(dev, false);
}

void softdev_log_harvest(struct softdev *dev, uint64_t *bitmap)
{
    pthread_mutex_lock(&dev->lock);
    for (size_t word = 0; word < (dev->ram_pages + 63) / 64; word++) {
        bitmap[word] |= dev->log[word];
        dev->log[word] = 0;
    }
    pthread_mutex_unlock(&dev->lock);
}

uint64_t softdev_checksum(struct softdev *dev)
{
    pthread_mutex_lock(&dev->lock);
    uint64_t sum = checksum(dev->memory, dev->blocks * BLOCK);
    pthread_mutex_unlock(&dev->lock);
    return sum;
}

void softdev_set_delay(struct softdev *dev, uint32_t from, uint32_t to, unsigned microseconds)
{
    dev->delay[from % STATES][to % STATES] = microseconds;
}

void softdev_fail_arc(struct softdev *dev, uint32_t from, uint32_t to, int error)
{
    dev->fail_arc[from % STATES][to % STATES] = error;
}

void softdev_fail_read(struct softdev *dev, uint64_t bytes, int error)
{
    dev->fail_read_at = bytes;
    dev->fail_read = error;
}
