// Per-step kernel, backward: one time step of a layer, from the last to the first, and one launch more (step = steps) for the
// gradient of h0. A launch multiplies the gate gradients of the one before by W_hhᵀ. Contract: docs/cuda.md.
//
// Compile-time: STORAGE (a type of exact.cuh), THREADS, SHARED_BYTES.
#include "exact.cuh"

using S = Exact<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;
using Wide = S::Wide;
using Four = Quad<Wide>;

constexpr int UNIT_TILE = 16, COLUMN_TILE = 32, DEPTH = 16;
constexpr unsigned GRADIENT_TILE = DEPTH * UNIT_TILE * sizeof(Four);
static_assert(THREADS == UNIT_TILE * COLUMN_TILE / 4 && SHARED_BYTES == GRADIENT_TILE + DEPTH * COLUMN_TILE * sizeof(Four));

struct Direction {
    const Value* weights;   // [4][H (gate row)][H (unit of h)], as the framework keeps them
    const Value* gates;     // [T][B][4][H], after their nonlinearities, or before them where `recompute`
    const Wide* cells;      // [T][B][H]
    const Wide* c0;         // [B][H]; null: zeros
    const Value* grad_y;    // [T][B][y_stride]
    const int* lengths;     // [B]; null: all T
    Value* grad_gates;      // [T][B][4][H], of the preactivations
    const Wide* grad_h;     // [B][H], as the launch before left it; at the first that of h_n, null: zeros
    const Wide* grad_c;     // [B][H], the same of c
    Wide* grad_h_next;      // [B][H], may be that of before; in the end that of h0
    Wide* grad_c_next;      // [B][H], the same; in the end that of c0
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, recompute, step;
};

KERNEL(lstm_step_backward, Arguments) {
    const Direction& d = launch.directions[grid_layer()];
    const int thread = thread_index(), batch = launch.batch, hidden = launch.hidden, steps = launch.steps;
    const int first_unit = grid_column() * UNIT_TILE, first_column = grid_row() * COLUMN_TILE;
    const int own = thread % UNIT_TILE, group = thread / UNIT_TILE, unit = first_unit + own;
    const int t = d.reverse ? launch.step : steps - 1 - launch.step;
    const int after = d.reverse ? t - 1 : t + 1, before = d.reverse ? t + 1 : t - 1;

    Wide sum[4] = {};
    for (int k0 = 0; k0 < hidden && launch.step > 0; k0 += DEPTH) {
        for (int i = thread; i < DEPTH * UNIT_TILE; i += THREADS) {
            const int k = k0 + i / UNIT_TILE, u = first_unit + i % UNIT_TILE;
            Four w{};
            if (k < hidden && u < hidden)
                w = S::wide_gates(S::read_gates(d.weights + (long long)k * hidden + u, (long long)hidden * hidden));
            shared_write(i * unsigned(sizeof(Four)), w);
        }
        for (int i = thread; i < DEPTH * COLUMN_TILE; i += THREADS) {
            const int k = k0 + i % DEPTH, n = first_column + i / DEPTH;
            Four grad{};
            if (k < hidden && n < batch) 
                grad = S::wide_gates(S::read_gates(d.grad_gates + ((long long)after * batch + n) * 4 * hidden + k, hidden));
            shared_write(GRADIENT_TILE + (i % DEPTH * COLUMN_TILE + i / DEPTH) * unsigned(sizeof(Four)), grad);
        }
        block_barrier();
        UNROLL for (int k = 0; k < DEPTH; ++k) {
            const Four w = shared_read<Four>((k * UNIT_TILE + own) * unsigned(sizeof(Four)));
            UNROLL for (int j = 0; j < 4; ++j) {
                const Four x = shared_read<Four>(GRADIENT_TILE + (k * COLUMN_TILE + group * 4 + j) * unsigned(sizeof(Four)));
                sum[j] += w.i * x.i + w.f * x.f + w.g * x.g + w.o * x.o;
            }
        }
        block_barrier();
    }

    UNROLL for (int j = 0; j < 4; ++j) {
        const int n = first_column + group * 4 + j;
        if (n >= batch || unit >= hidden) continue;
        const long long state = (long long)n * hidden + unit;
        Wide into_h = (d.grad_h ? global_read(d.grad_h + state) : Wide(0)) + sum[j];
        if (launch.step == steps) {
            global_write(d.grad_h_next + state, into_h);
            continue;
        }
        const long long token = (long long)t * batch + n, at = token * hidden + unit;
        const long long gates_at = token * 4 * hidden + unit;
        Four v = S::wide_gates(S::read_gates(d.gates + gates_at, hidden));
        if (launch.recompute) v = lstm_activate<S>(v);
        const bool live = t < (d.lengths ? global_read(d.lengths + n) : steps), first = launch.step + 1 == steps;
        Wide c_before = 0;
        if (!first) c_before = global_read(d.cells + ((long long)before * batch + n) * hidden + unit);
        else if (d.c0) c_before = global_read(d.c0 + state);
        // Beyond its length y is a constant zero, whatever gradient it is given.
        if (live) into_h += S::wide(global_read(d.grad_y + token * launch.y_stride + unit));
        const Wide c = global_read(d.cells + at), from_above = d.grad_c ? global_read(d.grad_c + state) : Wide(0);
        const LstmGradient<Four, Wide> grad = lstm_backward<S>(v, c, c_before, into_h, from_above);
        S::write_gates(d.grad_gates + gates_at, hidden, S::gates(live ? grad.preactivations : Four{}));
        global_write(d.grad_h_next + state, live ? Wide(0) : into_h);
        global_write(d.grad_c_next + state, live ? grad.c_before : from_above);
    }
}
