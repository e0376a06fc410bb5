// Probe: how many products of tensor cores a multiprocessor issues a cycle, weights (A) in registers. Either `mma` on 8 columns,
// in so many independent chains a warp; or, on sm_90a, four warps together on 8, 16 or 32 columns read from shared memory.
//
// Compile-time: STORAGE, KIND (its GROUP_ name), CHAINS, COLUMNS (0: mma), THREADS, SHARED_BYTES. Grid: one block.
#include "storage.cuh"

using S = Stored<STORAGE>;
constexpr int TILES = COLUMNS / 8;
static_assert(SHARED_BYTES == (TILES ? TILES : 1) * 256);

struct Arguments {
    const Word* a;      // [32 lanes][4]: every warp multiplies the same 16 rows
    const Word* b;      // [2][32 lanes]: and the same 8 columns
    long long* cycles;  // [warps]
    float* sums;        // [THREADS][4] after `rounds` products, of the first chain or tile
    int rounds;
};

KERNEL(probe_multiply, Arguments) {
    const int thread = thread_index(), lane = thread & 31;
    Word a[4];
    UNROLL for (int r = 0; r < 4; ++r) a[r] = global_read(launch.a + lane * 4 + r);
    const Word b0 = global_read(launch.b + lane), b1 = global_read(launch.b + 32 + lane);
    float sum[CHAINS > TILES ? CHAINS : TILES][4] = {};
    long long begun, ended;
#if COLUMNS == 0
    begun = cycles();
    for (int round = 0; round < launch.rounds; ++round)
        UNROLL for (int chain = 0; chain < CHAINS; ++chain) S::multiply(sum[chain], a, b0, b1);
    ended = cycles();  // the last few products are still under way: make `rounds` large
#else
    for (int tile = thread / 32; tile < TILES; tile += THREADS / 32) {
        shared_write(tile * 256 + lane * 4, b0);
        shared_write(tile * 256 + 128 + lane * 4, b1);
    }
    block_barrier();
    begun = cycles();
    group_begin();
    for (int round = 0; round < launch.rounds; ++round) multiply_group<KIND, COLUMNS>(sum, a, 0);
    group_end();
    ended = cycles();
#endif
    if (lane == 0) global_write(launch.cycles + thread / 32, ended - begun);
    UNROLL for (int r = 0; r < 4; ++r) global_write(launch.sums + thread * 4 + r, sum[0][r]);
}
