/*
 * debug_point.h
 *		Named places where a test can stop, fail or crash a process.
 *
 * DEBUG_POINT("room_what") does nothing unless the tree was built with
 * DEBUG_POINTS=1.  With it:
 *
 * - the point waits while another session holds the advisory lock
 *   (0x76656373, hashtext(name)) exclusively, so that an isolation spec can
 *   stop a process there; never place one while holding an LWLock or a pin that others wait for;
 * - the setting <library>.debug_crash = 'name' makes the process leave by
 *   abort() there, as a crash would; 'name:error' raises an error instead;
 *   with 'name:hold' it makes the file debug_held in the data directory and
 *   waits there as long as debug_hold exists.
 *
 * DEBUG_CRASH_POINT does only the latter: for places that hold locks with
 * which no other may be taken, or that no transaction is in.
 */
#ifndef BASE_DEBUG_POINT_H
#define BASE_DEBUG_POINT_H

#ifdef DEBUG_POINTS
extern void debug_point_init(const char *library);
extern void debug_point_reached(const char *name, bool may_wait);
#define DEBUG_POINT(name) debug_point_reached(name, true)
#define DEBUG_CRASH_POINT(name) debug_point_reached(name, false)
#else
#define debug_point_init(library) ((void) 0)
#define DEBUG_POINT(name) ((void) 0)
#define DEBUG_CRASH_POINT(name) ((void) 0)
#endif

#endif							/* BASE_DEBUG_POINT_H */
