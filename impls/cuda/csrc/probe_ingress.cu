// Probe: how many bytes a cycle a block can take from its peers while all send to all, as the persistent-cluster kernels do
// with h. Two buffers and the order of waits are those of cluster_forward.cu.
//
// Compile-time: CLUSTER, PAYLOAD (16-byte words a block sends to each peer a step), THREADS, SHARED_BYTES. Grid: one cluster or more.
#include "device.cuh"

constexpr int ARRIVING = (CLUSTER - 1) * PAYLOAD;
constexpr unsigned BARRIERS = 2 * CLUSTER * PAYLOAD * 16;
static_assert(CLUSTER > 1 && SHARED_BYTES == BARRIERS + 16);

struct Arguments {
    long long* cycles;  // [blocks] of all steps but the first two
    Word* sums;         // [blocks][THREADS] of the first words of all that was read
    int steps;
    int check;  // read what came at every step; else at the last two alone, so that nothing but sends is timed
};

DEVICE unsigned word_offset(int buffer, int from, int word) { return ((buffer * CLUSTER + from) * PAYLOAD + word) * 16; }

KERNEL(probe_ingress, Arguments) {
    const int thread = thread_index(), rank = cluster_rank();
    if (thread == 0) {
        for (int b = 0; b < 2; ++b) {
            transfer_init(BARRIERS + 8 * b);
            transfer_expect(BARRIERS + 8 * b, ARRIVING * 16);
        }
    }
    cluster_barrier();
    long long begun = 0;
    Word sum = 0;
    for (int step = 0; step < launch.steps; ++step) {
        const int current = step & 1;
        if (step == 2) begun = cycles();
        for (int i = thread; i < ARRIVING; i += THREADS) {
            const int peer = (rank + 1 + i / PAYLOAD) % CLUSTER, word = i % PAYLOAD;
            const Word value = step * 65536u + rank * 4096u + word;
            send(peer_address(word_offset(current, rank, word), peer), peer_address(BARRIERS + 8 * current, peer),
                 uint4{value, value, value, value});
        }
        transfer_wait(BARRIERS + 8 * current, (step >> 1) & 1);
        if (thread == 0 && step + 2 < launch.steps) transfer_expect(BARRIERS + 8 * current, ARRIVING * 16);
        if (launch.check || step + 2 >= launch.steps) {
            for (int i = thread; i < ARRIVING; i += THREADS)
                sum += shared_read<uint4>(word_offset(current, (rank + 1 + i / PAYLOAD) % CLUSTER, i % PAYLOAD)).x;
        }
        // Whoever receives the next words may then send over these.
        block_barrier();
    }
    if (thread == 0) global_write(launch.cycles + grid_column(), cycles() - begun);
    global_write(launch.sums + grid_column() * THREADS + thread, sum);
}
