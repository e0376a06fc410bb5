// Per-step kernel on tensor cores, forward: one time step of a layer. A block computes 8 units (as two A-tiles, like a warp of
// cluster_forward.cu) of TILES · 8 columns; its SPLIT warps share the product along k and read the weights from L2, 16
// bytes of a row a lane. Takes every size; contract: docs/cuda.md.
//
// Compile-time: STORAGE, TILES, SPLIT, THREADS, SHARED_BYTES.
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;

constexpr int COLUMNS = 8 * TILES;
constexpr int PAIR = 16 * S::PER_WORD;  // k of two k-tiles, of which a lane reads 16 bytes of h at once
static_assert(THREADS == 32 * SPLIT && TILES <= SPLIT && SHARED_BYTES == SPLIT * TILES * 2 * 32 * 16);

struct Direction {
    const Value* weights;    // [4][H][pitch]: as the framework keeps them, or with zeros beyond H
    const Value* projected;  // [T][B][4][H]
    const Value* h;          // [B][pitch], before this step, zero beyond H; null: zeros
    Value* h_next;           // [B][pitch], another array
    const float* c;          // [B][H], before this step; null: zeros
    float* c_next;           // [B][H], may be that of before
    const int* lengths;      // [B]; null: all T
    Value* y;                // [T][B][y_stride]
    Value* gates;            // [T][B][4][H] or null
    float* cells;            // [T][B][H] or null
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, pitch, step;  // pitch: a multiple of 16 bytes, at least H
};

DEVICE uint4 read_operand(const Value* from) { return S::operand_words(global_read(reinterpret_cast<const uint4*>(from))); }
DEVICE unsigned scratch(int part, int tile, int m, int lane) { return (((part * TILES + tile) * 2 + m) * 32 + lane) * 16; }

KERNEL(lstm_tensor_step_forward, Arguments) {
    const Direction& d = launch.directions[grid_layer()];
    const int thread = thread_index(), lane = thread & 31, part = thread >> 5, row = lane >> 2, pair = lane & 3;
    const int batch = launch.batch, hidden = launch.hidden, pairs = (hidden + PAIR - 1) / PAIR;
    const int octet = grid_column(), first_column = grid_row() * COLUMNS, unit = octet * 8 + row;

    float sum[TILES][2][4] = {};
    for (int k = part; k < pairs; k += SPLIT) {
        // Of the 16 words of two k-tiles a lane has four neighbours: both halves of the first tile, then of the second.
        const int from = k * PAIR + pair * 4 * S::PER_WORD;
        Word a[2][2][4];
        UNROLL for (int gate = 0; gate < 4; ++gate) {
            uint4 v{};
            if (unit < hidden && from < launch.pitch) v = read_operand(d.weights + ((long long)gate * hidden + unit) * launch.pitch + from);
            Word(&first)[4] = a[0][gate >> 1], (&second)[4] = a[1][gate >> 1];
            first[gate & 1] = v.x, first[2 + (gate & 1)] = v.y;
            second[gate & 1] = v.z, second[2 + (gate & 1)] = v.w;
        }
        UNROLL for (int tile = 0; tile < TILES; ++tile) {
            const int n = first_column + tile * 8 + row;
            uint4 b{};
            if (d.h && n < batch && from < launch.pitch) b = read_operand(d.h + (long long)n * launch.pitch + from);
            UNROLL for (int m = 0; m < 2; ++m) {
                S::multiply(sum[tile][m], a[0][m], b.x, b.y);
                S::multiply(sum[tile][m], a[1][m], b.z, b.w);
            }
        }
    }
    UNROLL for (int tile = 0; tile < TILES; ++tile)
        UNROLL for (int m = 0; m < 2; ++m) {
            const float(&s)[4] = sum[tile][m];
            shared_write(scratch(part, tile, m, lane), float4{s[0], s[1], s[2], s[3]});
        }
    block_barrier();
    if (part >= TILES) return;

    // From here on a warp has one column tile.
    float z[2][4] = {};
    UNROLL for (int from = 0; from < SPLIT; ++from)
        UNROLL for (int m = 0; m < 2; ++m) {
            const float4 s = shared_read<float4>(scratch(from, part, m, lane));
            z[m][0] += s.x, z[m][1] += s.y, z[m][2] += s.z, z[m][3] += s.w;
        }
    const int t = d.reverse ? launch.steps - 1 - launch.step : launch.step;
    UNROLL for (int j = 0; j < 2; ++j) {
        const int n = first_column + part * 8 + pair * 2 + j;
        if (n >= batch || unit >= hidden) continue;
        const long long state = (long long)n * hidden + unit, token = (long long)t * batch + n, at = token * hidden + unit;
        const long long state_h = (long long)n * launch.pitch + unit, gates_at = token * 4 * hidden + unit;
        const Gates4 p = S::wide_gates(S::read_gates(d.projected + gates_at, hidden));
        const Gates4 gate = lstm_gates<S>({z[0][j], z[0][2 + j], z[1][j], z[1][2 + j]}, p);
        const bool live = t < (d.lengths ? global_read(d.lengths + n) : launch.steps);
        const float before = d.c ? global_read(d.c + state) : 0.0f;
        const LstmState<float> after = lstm_forward<S>(gate, before);
        const float c = live ? after.c : before;
        const Value out = S::narrow(after.h);
        global_write(d.c_next + state, c);
        global_write(d.h_next + state_h, live ? out : d.h ? global_read(d.h + state_h) : Value(0));
        global_write(d.y + token * launch.y_stride + unit, live ? out : Value(0));
        if (d.gates) S::write_gates(d.gates + gates_at, hidden, S::gates(gate));
        if (d.cells) global_write(d.cells + at, c);
    }
}
