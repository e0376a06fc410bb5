// Per-step kernel on tensor cores, backward: one time step of a layer, from the last to the first, and one launch more (step =
// steps) for the gradient of h0. A block computes dh of 16 units of TILES · 8 columns, then their gate gradients; its SPLIT
// warps share the product with the gate gradients of the launch before. Contract: docs/cuda.md.
//
// Compile-time: STORAGE, TILES, SPLIT, THREADS, SHARED_BYTES.
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;

constexpr int COLUMNS = 8 * TILES;
constexpr int UNITS = 4 * S::PER_WORD;  // whose gates are two k-tiles; a lane reads 16 bytes of them at once
static_assert(THREADS == 32 * SPLIT && TILES <= SPLIT && SHARED_BYTES == SPLIT * TILES * 32 * 16);

struct Direction {
    const uint4* weights;   // [⌈H/16⌉][⌈H/UNITS⌉][2 k-tiles][32]
    const Gates* gates;     // [T][B][H], after their nonlinearities, or before them where `recompute`
    const float* cells;     // [T][B][H]
    const float* c0;        // [B][H]
    const Value* grad_y;    // [T][B][y_stride]
    const int* lengths;     // [B]
    Gates* grad_gates;      // [T][B][H], of the preactivations
    float* grad_h;          // [B][H], in place: enters as that of h_n, ends as that of h0
    float* grad_c;          // [B][H], in place: enters as that of c_n, ends as that of c0
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, recompute, step;
};

DEVICE unsigned scratch(int part, int tile, int lane) { return ((part * TILES + tile) * 32 + lane) * 16; }

// 16 bytes of a column's gate gradients: those of two units, or of one; zero beyond H.
DEVICE uint4 join(uint2 low, uint2 high) { return {low.x, low.y, high.x, high.y}; }
DEVICE uint4 join(uint4 only, uint4) { return S::operand_words(only); }
DEVICE uint4 read_operand(const Gates* of_column, int unit, int hidden) {
    const Gates low = unit < hidden ? global_read(of_column + unit) : Gates{};
    const bool two = S::PER_WORD == 2 && unit + 1 < hidden;
    return join(low, two ? global_read(of_column + unit + 1) : Gates{});
}

KERNEL(lstm_tensor_step_backward, Arguments) {
    const Direction& d = launch.directions[grid_layer()];
    const int thread = thread_index(), lane = thread & 31, part = thread >> 5, row = lane >> 2, pair = lane & 3;
    const int batch = launch.batch, hidden = launch.hidden, steps = launch.steps, pairs = (hidden + UNITS - 1) / UNITS;
    const int first_unit = grid_column() * 16, first_column = grid_row() * COLUMNS;
    const int t = d.reverse ? launch.step : steps - 1 - launch.step;
    const int after = d.reverse ? t - 1 : t + 1, before = d.reverse ? t + 1 : t - 1;

    float sum[TILES][4] = {};
    for (int k = part; k < pairs && launch.step > 0; k += SPLIT) {
        const uint4* const weights = d.weights + ((long long)grid_column() * pairs + k) * 2 * 32 + lane;
        const uint4 u = global_read(weights), v = global_read(weights + 32);
        const Word first[4] = {u.x, u.y, u.z, u.w}, second[4] = {v.x, v.y, v.z, v.w};
        UNROLL for (int tile = 0; tile < TILES; ++tile) {
            const int n = first_column + tile * 8 + row;
            uint4 b{};
            if (n < batch)
                b = read_operand(d.grad_gates + ((long long)after * batch + n) * hidden, k * UNITS + pair * S::PER_WORD, hidden);
            S::multiply(sum[tile], first, b.x, b.y);
            S::multiply(sum[tile], second, b.z, b.w);
        }
    }
    UNROLL for (int tile = 0; tile < TILES; ++tile) {
        const float(&s)[4] = sum[tile];
        shared_write(scratch(part, tile, lane), float4{s[0], s[1], s[2], s[3]});
    }
    block_barrier();
    if (part >= TILES) return;

    // From here on a warp has one column tile: a lane two columns of units `row` and `row + 8`.
    float from_later[4] = {};
    UNROLL for (int from = 0; from < SPLIT; ++from) {
        const float4 s = shared_read<float4>(scratch(from, part, lane));
        from_later[0] += s.x, from_later[1] += s.y, from_later[2] += s.z, from_later[3] += s.w;
    }
    UNROLL for (int r = 0; r < 4; ++r) {
        const int n = first_column + part * 8 + pair * 2 + (r & 1), unit = first_unit + row + 8 * (r >> 1);
        if (n >= batch || unit >= hidden) continue;
        const long long state = (long long)n * hidden + unit;
        float into_h = global_read(d.grad_h + state) + from_later[r];
        if (launch.step == steps) {
            global_write(d.grad_h + state, into_h);
            continue;
        }
        const long long token = (long long)t * batch + n, at = token * hidden + unit;
        Gates4 v = S::wide_gates(global_read(d.gates + at));
        if (launch.recompute) v = lstm_activate<S>(v);
        const bool live = t < global_read(d.lengths + n), last = launch.step + 1 == steps;
        const float c_before = last ? global_read(d.c0 + state) : global_read(d.cells + ((long long)before * batch + n) * hidden + unit);
        // Beyond its length y is a constant zero, whatever gradient it is given.
        if (live) into_h += S::wide(global_read(d.grad_y + token * launch.y_stride + unit));
        const float c = global_read(d.cells + at), from_above = global_read(d.grad_c + state);
        const LstmGradient<Gates4, float> sent = lstm_backward<S>(v, c, c_before, into_h, from_above);
        const Gates grad = S::gates(sent.preactivations);
        global_write(d.grad_gates + at, live ? grad : Gates{});
        global_write(d.grad_h + state, live ? 0.0f : into_h);
        global_write(d.grad_c + state, live ? sent.c_before : from_above);
    }
}
