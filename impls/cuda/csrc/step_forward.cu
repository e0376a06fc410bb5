// Per-step kernel, forward: one time step of a layer. A block computes UNIT_TILE units of COLUMN_TILE columns; one launch a step,
// both directions side by side. Takes every size; contract: docs/cuda.md.
//
// Compile-time: STORAGE (a type of exact.cuh), THREADS, SHARED_BYTES.
#define BLOCKS_OF_SM 4
#include "exact.cuh"

using S = Exact<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;
using Wide = S::Wide;
using Four = Quad<Wide>;

constexpr int UNIT_TILE = 16, COLUMN_TILE = 32, DEPTH = 16;
constexpr int PITCH = COLUMN_TILE + 4;  // keeps writes of neighbouring k in different banks
constexpr int UNIT_PITCH = UNIT_TILE + 1;
constexpr unsigned H_TILE = DEPTH * UNIT_PITCH * sizeof(Four);
static_assert(THREADS == UNIT_TILE * COLUMN_TILE / 4 && SHARED_BYTES == H_TILE + DEPTH * PITCH * sizeof(Wide));

struct Direction {
    const Value* weights;    // [4][H (unit)][H (k)], as the framework keeps them
    const Value* projected;  // [T][B][4][H]
    const Value* h;          // [B][H], before this step; null: zeros
    Value* h_next;           // [B][H], another array
    const Wide* c;           // [B][H], before this step; null: zeros
    Wide* c_next;            // [B][H], may be that of before
    const int* lengths;      // [B]; null: all T
    Value* y;                // [T][B][y_stride]
    Value* gates;            // [T][B][4][H] or null
    Wide* cells;             // [T][B][H] or null
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, step;
};

KERNEL(lstm_step_forward, Arguments) {
    const Direction& d = launch.directions[grid_layer()];
    const int thread = thread_index(), batch = launch.batch, hidden = launch.hidden;
    const int first_unit = grid_column() * UNIT_TILE, first_column = grid_row() * COLUMN_TILE;
    const int own = thread % UNIT_TILE, group = thread / UNIT_TILE, unit = first_unit + own;

    Four sum[4] = {};
    for (int k0 = 0; k0 < hidden; k0 += DEPTH) {
        for (int i = thread; i < DEPTH * UNIT_TILE; i += THREADS) {
            const int k = k0 + i % DEPTH, u = first_unit + i / DEPTH;
            Four w{};
            if (k < hidden && u < hidden)
                w = S::wide_gates(S::read_gates(d.weights + (long long)u * hidden + k, (long long)hidden * hidden));
            shared_write((i % DEPTH * UNIT_PITCH + i / DEPTH) * unsigned(sizeof(Four)), w);
        }
        for (int i = thread; i < DEPTH * COLUMN_TILE; i += THREADS) {
            const int k = i % DEPTH, n = first_column + i / DEPTH;
            Wide value = 0;
            if (d.h && k0 + k < hidden && n < batch) value = S::wide(global_read(d.h + (long long)n * hidden + k0 + k));
            shared_write(H_TILE + (k * PITCH + i / DEPTH) * unsigned(sizeof(Wide)), value);
        }
        block_barrier();
        UNROLL for (int k = 0; k < DEPTH; ++k) {
            const Four w = shared_read<Four>((k * UNIT_PITCH + own) * unsigned(sizeof(Four)));
            const Four x = shared_read<Four>(H_TILE + (k * PITCH + group * 4) * unsigned(sizeof(Wide)));
            const Wide column[4] = {x.i, x.f, x.g, x.o};
            UNROLL for (int j = 0; j < 4; ++j) {
                sum[j].i += w.i * column[j];
                sum[j].f += w.f * column[j];
                sum[j].g += w.g * column[j];
                sum[j].o += w.o * column[j];
            }
        }
        block_barrier();
    }

    const int t = d.reverse ? launch.steps - 1 - launch.step : launch.step;
    UNROLL for (int j = 0; j < 4; ++j) {
        const int n = first_column + group * 4 + j;
        if (n >= batch || unit >= hidden) continue;
        const long long state = (long long)n * hidden + unit, token = (long long)t * batch + n, at = token * hidden + unit;
        const long long gates_at = token * 4 * hidden + unit;
        const Four p = S::wide_gates(S::read_gates(d.projected + gates_at, hidden));
        const Four gate = lstm_gates<S>(sum[j], p);
        const bool live = t < (d.lengths ? global_read(d.lengths + n) : launch.steps);
        const Wide before = d.c ? global_read(d.c + state) : Wide(0);
        const LstmState<Wide> after = lstm_forward<S>(gate, before);
        const Wide c = live ? after.c : before;
        const Value out = S::narrow(after.h);
        global_write(d.c_next + state, c);
        global_write(d.h_next + state, live ? out : d.h ? global_read(d.h + state) : Value(0));
        global_write(d.y + token * launch.y_stride + unit, live ? out : Value(0));
        if (d.gates) S::write_gates(d.gates + gates_at, hidden, S::gates(gate));
        if (d.cells) global_write(d.cells + at, c);
    }
}
