/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "server.h"

#include "util.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define REGION_WRITE 10
#define READ_PAGES 0x10 /* a register of BAR 0 */
#define MOST_WORDS 32

static const char *side(bool source)
{
    return source ? "source" : "destination";
}

struct words {
    const char *word[MOST_WORDS];
    unsigned count;
    char text[MOST_WORDS][96];
};

static void add(struct words *w, const char *option, const char *value)
{
    w->word[w->count++] = option;
    if (value != NULL) {
        snprintf(w->text[w->count], sizeof w->text[0], "%s", value);
        w->word[w->count] = w->text[w->count];
        w->count++;
    }
}

/* What fails: once, of the source's device or of the destination's. */
static const char *failure(const struct options *o, bool source)
{
    switch (o->fail) {
    case STEP_NONE: break;
    case STEP_PRECOPY: return !source ? NULL : o->dialect == SIMDEV_V2 ? "data-read@1=EIO" : "data-offset-read@1=EIO";
    case STEP_STOP_COPY: return source ? "enter-stop-copy=EBUSY" : NULL;
    case STEP_LOAD: return source ? NULL : o->dialect == SIMDEV_V2 ? "enter-stop=EINVAL" : "enter-running=EINVAL";
    }
    return NULL;
}

static void words_of(struct words *w, const struct server *s, const struct options *o, unsigned number, bool source)
{
    char text[96];
    const char *program = getenv("VFIOMIG_SIMDEV");
    add(w, program != NULL ? program : "vfiomig-simdev", NULL);
    snprintf(text, sizeof text, "%s/%s%u.sock", o->directory, side(source), number);
    add(w, "--socket", text);
    snprintf(text, sizeof text, "%s/%s%u.json", o->directory, side(source), number);
    add(w, "--report", text);
    add(w, "--dialect", o->dialect == SIMDEV_V2 ? "v2" : "v1");
    snprintf(text, sizeof text, "%zu", o->state_bytes);
    add(w, "--state-size", text);
    snprintf(text, sizeof text, "0x%" PRIx64 "+%" PRIu64 "/1ms", s->window, SERVER_WINDOW);
    add(w, "--write", text);
    add(w, "--allow-abort", NULL); /* it judges a stream that is left before its END */
    if (source) {
        snprintf(text, sizeof text, "%u", number + 1);
        add(w, "--seed", text);
        add(w, "--change", "0+4K/1ms");
        add(w, "--delay", "enter-stop-copy=8ms");
    } else {
        add(w, "--delay", "enter-running=1ms");
    }
    const char *fails = number == 0 ? failure(o, source) : NULL;
    if (fails != NULL) {
        add(w, "--fail", fails);
    }
}

/* It has a moment to begin to listen. */
static int connect_to(struct server *s, const char *path, const char *who)
{
    struct vfiomig_error *error = NULL;
    const uint64_t end = now_ns() + UINT64_C(1000000) * PATIENCE_MS;
    while (vfiomig_vfio_user_connect(path, NULL, &s->connection, &error) < 0) {
        if (now_ns() > end || waitpid(s->process, NULL, WNOHANG) != 0) {
            s->process = 0;
            return fail(who, error);
        }
        vfiomig_error_free(error);
        error = NULL;
        sleep_us(10000);
    }
    return 0;
}

int server_new(struct server *s, const struct options *o, unsigned number, bool source, int ram)
{
    struct words words = {.count = 0};
    struct vfiomig_error *error = NULL;
    *s = (struct server){.window = o->ram_bytes - (number + 1) * SERVER_WINDOW};
    words_of(&words, s, o, number, source);
    char path[96];
    snprintf(path, sizeof path, "%s/%s%u.log", o->directory, side(source), number);
    s->process = fork();
    if (s->process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (freopen(path, "w", stderr) == NULL || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
            _exit(1);
        }
        execvp(words.word[0], (char *const *)words.word);
        perror(words.word[0]);
        _exit(127);
    }
    if (s->process < 0) {
        perror("live-migrate: fork");
        s->process = 0;
        return -1;
    }
    if (connect_to(s, words.word[2], side(source)) < 0) {
        fprintf(stderr, "%s: no vfiomig-simdev answers (VFIOMIG_SIMDEV names it)\n", side(source));
        return -1;
    }
    if (vfiomig_vfio_user_map(s->connection, 0, o->ram_bytes, ram, 0,
                              VFIOMIG_VFIO_USER_DMA_F_READ | VFIOMIG_VFIO_USER_DMA_F_WRITE, &error) < 0) {
        return fail(side(source), error);
    }
    return 0;
}

void server_free(struct server *s)
{
    vfiomig_vfio_user_free(s->connection); /* it ends when its client has gone */
    s->connection = NULL;
    if (s->process > 0) {
        waitpid(s->process, NULL, 0);
        s->process = 0;
    }
}

void server_ring(struct server *s)
{
    struct {
        uint64_t offset;
        uint32_t region;
        uint32_t count;
        uint64_t value;
    } request = {.offset = READ_PAGES, .count = sizeof request.value}; /* BAR 0; the first page */
    unsigned char reply[16];
    struct vfiomig_vfio_user_call call = {
        .argsz = sizeof call, .command = REGION_WRITE, .request = &request, .request_len = sizeof request,
        .reply = reply, .reply_room = sizeof reply,
    };
    vfiomig_vfio_user_call(s->connection, &call, NULL); /* what fails here is met by the migration, too */
}

/* The text behind `"name": ` in a server's report; `value` is empty if there is none. */
static void report_value(const struct options *o, bool source, unsigned number, const char *name, char *value,
                         size_t room)
{
    char path[96], line[256], wanted[40];
    value[0] = '\0';
    snprintf(path, sizeof path, "%s/%s%u.json", o->directory, side(source), number);
    snprintf(wanted, sizeof wanted, "\"%s\": ", name);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *found = strstr(line, wanted);
        if (found != NULL) {
            snprintf(value, room, "%.*s", (int)strcspn(found + strlen(wanted), ",\n"), found + strlen(wanted));
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

int servers_begin(struct options *o)
{
    snprintf(o->directory, sizeof o->directory, "/tmp/live-migrate.XXXXXX");
    if (mkdtemp(o->directory) == NULL) {
        perror(o->directory);
        return -1;
    }
    return 0;
}

static bool is_clean(const struct options *o, bool source, unsigned number)
{
    char clean[16], text[200];
    report_value(o, source, number, "clean", clean, sizeof clean);
    if (strcmp(clean, "true") == 0) {
        return true;
    }
    report_value(o, source, number, "text", text, sizeof text);
    printf("FAILED: the %s's server of device %u has against its client: %s\n", side(source), number,
           text[0] != '\0' ? text : "no verdict");
    return false;
}

static bool is_same(const struct options *o, unsigned number)
{
    char here[40], there[40];
    report_value(o, true, number, "checksum", here, sizeof here);
    report_value(o, false, number, "checksum", there, sizeof there);
    if (here[0] != '\0' && strcmp(here, there) == 0) {
        return true;
    }
    printf("FAILED: device %u has the checksum %s at the source and %s at the destination\n", number, here, there);
    return false;
}

static void forget(const struct options *o)
{
    static const char *const kinds[] = {"sock", "json", "log"};
    char path[96];
    for (unsigned i = 0; i < 6 * o->devices; i++) {
        snprintf(path, sizeof path, "%s/%s%u.%s", o->directory, side(i % 2 == 0), i / 6, kinds[i % 6 / 2]);
        unlink(path);
    }
    rmdir(o->directory);
}

bool servers_end(const struct options *o, bool migrated)
{
    bool good = true;
    for (unsigned i = 0; i < o->devices; i++) {
        const bool source = is_clean(o, true, i), destination = is_clean(o, false, i);
        good = good && source && destination && (!migrated || is_same(o, i));
    }
    if (good) {
        printf("The servers have nothing against their clients%s.\n",
               migrated ? ", and the state of every device is the same at both" : "");
    }
    forget(o);
    return good;
}
