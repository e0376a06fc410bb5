// W_hh of a layer in another order, by one launch for both directions: what a kernel needs that cannot read it where the framework
// keeps it. The order is an argument: the packed array is [axes …][8 or 4 values], and a step along an axis moves so many
// gates, units and inputs through [4][H][H]. Beyond H it is zero. Contract: docs/cuda.md.
//
// Compile-time: STORAGE, THREADS, SHARED_BYTES.
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;

constexpr int AXES = 7;
constexpr int VALUES = 4 * S::PER_WORD;  // in 16 bytes, which one thread writes: 2 · 2 · PER_WORD of them

struct Step {
    int gate, unit, input;
};
struct Direction {
    const Value* weights;  // [4][H][H]
    uint4* packed;
    long long unused;
};
struct Arguments {
    Direction directions[2];
    int hidden, count;  // count: 16-byte pieces of the packed array
    int sizes[AXES];    // outermost first; 1 where there are fewer axes
    Step steps[AXES];
    Step inner[3];      // of the values in 16 bytes, outermost first
};

KERNEL(lstm_pack, Arguments) {
    const Direction& d = launch.directions[grid_layer()];
    const int hidden = launch.hidden, piece = grid_column() * THREADS + thread_index();
    if (piece >= launch.count) return;
    Step at{};
    int left = piece;
    UNROLL for (int axis = AXES - 1; axis >= 0; --axis) {
        const int size = launch.sizes[axis], digit = left % size;
        left /= size;
        at.gate += digit * launch.steps[axis].gate;
        at.unit += digit * launch.steps[axis].unit;
        at.input += digit * launch.steps[axis].input;
    }
    Value values[VALUES];
    UNROLL for (int i = 0; i < VALUES; ++i) {
        const int digits[3] = {i / (2 * S::PER_WORD), i / S::PER_WORD % 2, i % S::PER_WORD};
        int gate = at.gate, unit = at.unit, input = at.input;
        UNROLL for (int axis = 0; axis < 3; ++axis) {
            gate += digits[axis] * launch.inner[axis].gate;
            unit += digits[axis] * launch.inner[axis].unit;
            input += digits[axis] * launch.inner[axis].input;
        }
        values[i] = 0;
        if (unit < hidden && input < hidden) values[i] = global_read(d.weights + ((long long)gate * hidden + unit) * hidden + input);
    }
    Word words[4];
    UNROLL for (int w = 0; w < 4; ++w) {
        if constexpr (S::PER_WORD == 2) words[w] = Word(values[2 * w]) | Word(values[2 * w + 1]) << 16;
        else words[w] = round_tensorfloat32(values[w]);
    }
    global_write(d.packed + piece, uint4{words[0], words[1], words[2], words[3]});
}
