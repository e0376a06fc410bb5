// Probe: how long one `send` takes to another block of a cluster. The first and the last block throw 16 bytes to and fro; the
// others only keep them apart. Every throw adds one to the token, so the last token tells how many there were.
//
// Compile-time: CLUSTER, THREADS, SHARED_BYTES. Grid: one cluster.
#include "device.cuh"

constexpr unsigned BARRIER = 0, MAIL = 16;
constexpr int LAST = CLUSTER - 1;
static_assert(CLUSTER > 1 && SHARED_BYTES == 32);

struct Arguments {
    long long* cycles;  // [1] of all trips but the first
    Word* token;        // [1] is 2 · trips
    int trips;          // there and back
};

KERNEL(probe_latency, Arguments) {
    const int rank = cluster_rank(), other = LAST - rank;
    const bool plays = thread_index() == 0 && (rank == 0 || rank == LAST);
    if (plays) {
        transfer_init(BARRIER);
        transfer_expect(BARRIER, 16);
    }
    cluster_barrier();
    if (plays) {
        const unsigned to = peer_address(MAIL, other), signal = peer_address(BARRIER, other);
        long long begun = 0;
        Word token = 0;
        for (int trip = 0; trip < launch.trips; ++trip) {
            if (rank == 0) {
                if (trip == 1) begun = cycles();
                send(to, signal, uint4{token + 1, 0, 0, 0});
            }
            transfer_wait(BARRIER, trip & 1);
            if (trip + 1 < launch.trips) transfer_expect(BARRIER, 16);
            token = shared_read<uint4>(MAIL).x;
            if (rank == LAST) send(to, signal, uint4{token + 1, 0, 0, 0});
        }
        if (rank == 0) {
            global_write(launch.cycles, cycles() - begun);
            global_write(launch.token, token);
        }
    }
    // Each waits for all that is sent to it, so none ends too early.
}
