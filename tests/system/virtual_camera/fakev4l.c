/* LD_PRELOAD stand-in for the kernel's side of a USB camera: the regular file $FAKE_V4L answers V4L2's ioctls.
 * The scene is $FAKE_V4L.scene, 640 x 480 grey bytes. Its brightness follows the exposure (1 at 10 ms), which the automatic
 * changes with every frame. Without the file the camera is unplugged; with $FAKE_V4L_BARE it has no controls.
 * build: gcc -O2 -shared -fPIC -o fakev4l.so fakev4l.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SCENE_W = 640, SCENE_H = 480, ROOM = 938 * 4096, MOST = 8 };
static const int sizes[][2] = {{320, 240}, {640, 480}, {1600, 1200}};
static int width = 640, height = 480, frames, queue[MOST], queued;
static struct { unsigned id; int low, high, value; } controls[] = {
    {V4L2_CID_EXPOSURE_AUTO, 0, 3, 3}, {V4L2_CID_EXPOSURE_ABSOLUTE, 1, 5000, 100}, {V4L2_CID_GAIN, 0, 255, 7},
    {V4L2_CID_AUTO_WHITE_BALANCE, 0, 1, 1}, {V4L2_CID_WHITE_BALANCE_TEMPERATURE, 2800, 6500, 4600}};

static int is_ours(int fd) {
    char link[32], target[4096];
    const char *path = getenv("FAKE_V4L");
    if (!path) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof target - 1);
    return n >= (ssize_t)strlen(path) && !strncmp(target, path, strlen(path)) &&
           (target[strlen(path)] == ' ' || n == (ssize_t)strlen(path));
}

static void set_format(struct v4l2_pix_format *pix, int change) {
    int best = 0;
    for (int i = 1; i < 3; i++)
        if (abs((int)pix->width - sizes[i][0]) < abs((int)pix->width - sizes[best][0])) best = i;
    if (change) width = sizes[best][0], height = sizes[best][1];
    pix->width = width, pix->height = height, pix->pixelformat = V4L2_PIX_FMT_YUYV, pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = 2 * width, pix->sizeimage = 2 * width * height;
}

static void expose(int fd, int index) {
    static unsigned char scene[SCENE_W * SCENE_H], frame[ROOM];
    char path[4096];
    snprintf(path, sizeof path, "%s.scene", getenv("FAKE_V4L"));
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) { if (read(file, scene, sizeof scene) < 0) perror(path); close(file); }
    if (controls[0].value == 3) controls[1].value = 60 + 7 * frames % 80; /* automatic: never the same twice */
    frames++;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int grey = scene[y * SCENE_H / height * SCENE_W + x * SCENE_W / width] * controls[1].value / 100;
            frame[2 * (y * width + x)] = grey > 235 ? 235 : grey;
            frame[2 * (y * width + x) + 1] = 128;
        }
    if (pwrite(fd, frame, 2 * width * height, (off_t)index * ROOM) < 0) perror("pwrite");
}

static int fail(int number) { errno = number; return -1; }

static int answer(int fd, unsigned request, void *argument) {
    struct v4l2_buffer *buffer = argument;
    if (access(getenv("FAKE_V4L"), F_OK)) return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *can = argument;
        memset(can, 0, sizeof *can);
        strcpy((char *)can->driver, "uvcvideo"), strcpy((char *)can->card, "Fake");
        can->capabilities = can->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_G_FMT: set_format(&((struct v4l2_format *)argument)->fmt.pix, 0); return 0;
    case VIDIOC_S_FMT: set_format(&((struct v4l2_format *)argument)->fmt.pix, 1); return 0;
    case VIDIOC_S_PARM: case VIDIOC_G_PARM:
        ((struct v4l2_streamparm *)argument)->parm.capture.timeperframe = (struct v4l2_fract){1, 30}; return 0;
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        if (wanted->count > MOST) wanted->count = MOST;
        queued = 0;
        return wanted->count ? ftruncate(fd, (off_t)wanted->count * ROOM) : 0;
    }
    case VIDIOC_QUERYBUF: buffer->length = ROOM, buffer->m.offset = buffer->index * ROOM; return 0;
    case VIDIOC_QBUF: /* filled at once, and then as old as it is when it is fetched */
        expose(fd, buffer->index), queue[queued++] = buffer->index; return 0;
    case VIDIOC_DQBUF:
        if (!queued) return fail(EIO);
        nanosleep(&(struct timespec){0, 33000000}, NULL);
        buffer->index = queue[0], buffer->bytesused = 2 * width * height, buffer->length = ROOM;
        buffer->m.offset = buffer->index * ROOM, buffer->flags = V4L2_BUF_FLAG_DONE;
        memmove(queue, queue + 1, --queued * sizeof *queue);
        return 0;
    case VIDIOC_STREAMON: return 0;
    case VIDIOC_STREAMOFF: queued = 0; return 0;
    }
    for (unsigned i = 0; i < sizeof controls / sizeof *controls && !getenv("FAKE_V4L_BARE"); i++) {
        struct v4l2_queryctrl *query = argument;
        struct v4l2_control *control = argument;
        if (*(unsigned *)argument != controls[i].id) continue;
        if (request == VIDIOC_QUERYCTRL)
            return query->type = V4L2_CTRL_TYPE_INTEGER, query->minimum = controls[i].low,
                   query->maximum = controls[i].high, query->step = 1, query->flags = 0, 0;
        if (request == VIDIOC_G_CTRL) return control->value = controls[i].value, 0;
        if (request == VIDIOC_S_CTRL)
            return control->value < controls[i].low || control->value > controls[i].high
                       ? fail(ERANGE) : (controls[i].value = control->value, 0);
    }
    return fail(EINVAL);
}

int ioctl(int fd, unsigned long request, ...) {
    static int (*next)(int, unsigned long, ...);
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (is_ours(fd)) return answer(fd, (unsigned)request, argument);
    if (!next) next = dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, argument);
}
