// Probe: how long a grid takes to exchange h through L2, as a persistent-grid kernel would: every block writes its own words and
// reads those of all. Three ways: a barrier with fences, as cooperative groups have it; a counter with release and acquire;
// words that carry the number of their step, so that nothing but the data is waited for.
//
// Compile-time: WAY (BARRIER, COUNTER, LETTERS), PAYLOAD (16-byte words of a block a step), THREADS, SHARED_BYTES.
// Grid: as many blocks as are resident at once, launched cooperatively.
#include "device.cuh"

enum { BARRIER, COUNTER, LETTERS };

struct Arguments {
    uint4* words;       // [2][blocks][PAYLOAD], zero
    unsigned* counter;  // [1], zero
    long long* cycles;  // [blocks] of all steps but the first two
    Word* sums;         // [blocks][THREADS] of the first words of all that was read
    int steps, blocks;
};

KERNEL(probe_grid, Arguments) {
    const int thread = thread_index(), block = grid_column(), blocks = launch.blocks;
    long long begun = 0;
    Word sum = 0;
    for (int step = 0; step < launch.steps; ++step) {
        if (step == 2) begun = cycles();
        uint4* const words = launch.words + (step & 1) * blocks * PAYLOAD;
        const unsigned number = step + 1;
        for (int i = thread; i < PAYLOAD; i += THREADS) {
            const uint4 word = {step * 65536u + block * 256u + i, 0, 0, number};
            if constexpr (WAY == LETTERS) letter_write(words + block * PAYLOAD + i, word);
            else exchange_write(words + block * PAYLOAD + i, word);
        }
        if constexpr (WAY != LETTERS) {
            block_barrier();
            if (thread == 0) {
                if constexpr (WAY == BARRIER) {
                    grid_fence();
                    counter_add(launch.counter, 1);
                    while (counter_read(launch.counter) < number * blocks) {}
                    grid_fence();
                } else {
                    counter_release(launch.counter, 1);
                    while (counter_acquire(launch.counter) < number * blocks) {}
                }
            }
            block_barrier();
        }
        for (int i = thread; i < blocks * PAYLOAD; i += THREADS) {
            if constexpr (WAY == LETTERS) {
                uint4 word = letter_read(words + i);
                while (word.w != number) word = letter_read(words + i);
                sum += word.x;
            } else sum += exchange_read(words + i).x;
        }
        // Whoever has the next words of this block may write over what it reads here: let all of it be read first.
        if constexpr (WAY == LETTERS) block_barrier();
    }
    if (thread == 0) global_write(launch.cycles + block, cycles() - begun);
    global_write(launch.sums + block * THREADS + thread, sum);
}
