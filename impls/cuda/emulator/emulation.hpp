// The state of one emulated cluster: its fibers, blocks, barriers, and who knows of whose writes (vector clocks).
#pragma once
#include <csetjmp>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <ucontext.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace emulation {

struct Failure {
    std::string message;
};
[[noreturn]] void fail(const std::string& message);

// clock[agent] = how much of that agent's history the owner knows. Agents are the threads, then the transfer barriers.
using Clock = std::vector<uint32_t>;
void join(Clock& into, const Clock& from);

constexpr uint32_t NOBODY = ~0u;
constexpr uint32_t IN_FLIGHT = ~0u;  // the time of an access that nobody, not even its own thread, knows to have ended
struct Access {
    uint32_t agent = NOBODY, time = 0;
};
struct SharedWord {
    Access written;
    std::vector<Access> read;  // since the last write
};

// Two bytes of an array that the launch writes. Clusters of one launch know nothing of each other.
struct GlobalWord : SharedWord {
    int cluster = -1;         // whose accesses `written` and `read` are
    bool read_before = false;  // by an earlier cluster
};

struct Copy {  // a `copy_async` that its thread has not waited for
    int block;
    unsigned to, bytes, group;
    const char* from;
    size_t place;  // in Cluster::copies, while it is there
    bool landed = false;
};

struct Fiber {
    int block = 0, thread = 0;
    uint32_t agent = 0;
    Clock clock, fenced, seen;  // fenced: known at the last grid_fence; seen: read from counters since
    ucontext_t context{};
    jmp_buf resume;
    std::unique_ptr<char[]> stack;
    bool started = false, finished = false;
    bool grouped = false;  // between group_begin and group_end
    Clock begun;           // known at group_begin
    std::vector<std::unique_ptr<Copy>> copies;
    unsigned groups = 0;  // of copies, committed
    const char* waits_for = "nothing";
};

// A rendezvous of a known number of threads. Whoever completes it wakes the others.
struct Barrier {
    std::vector<Fiber*> arrived;
    const char* what = nullptr;
};

struct Warp {
    Barrier barrier;
    struct Lane {
        Word a[4], b[2];
        float d[4];
    } in[32], out[32];
};

struct Transfer {  // an mbarrier with one arrival a phase
    uint32_t agent = 0, phase = 0;
    Access created;
    bool armed = false;
    long long bytes = 0;  // still to come; may be negative before `expect`
    Clock gathering, completed;
    std::vector<std::pair<Fiber*, uint32_t>> waiting;  // with the parity each waits for
};

struct AsyncCopy {  // a `send` in flight
    int block;
    unsigned to, barrier, bytes;
    uint32_t phase;
    unsigned char value[16];
};

struct Block {
    std::vector<unsigned char> memory;
    std::vector<SharedWord> words;
    std::vector<Warp> warps;
    std::map<int, Barrier> barriers;  // 0 is block_barrier
    std::map<unsigned, Transfer> transfers;
    int running = 0;
};

// A word of global memory that blocks read and write relaxed: its last values, and how far each thread has seen it come.
struct RelaxedWord {
    struct Value {
        uint64_t bits;
        Access by;
    };
    struct Look : Access {
        uint32_t index;
    };
    unsigned bytes = 0;
    uint32_t first = 0;  // of all its values, the number of values[0]
    std::vector<Value> values;
    std::vector<Look> looks;  // the last of each thread
};

struct Range {
    const char *begin, *end;
    bool writable;
};

struct Cluster {
    int number = 0, size = 1, threads = 0, position[3] = {0, 0, 0};
    std::unordered_map<uintptr_t, GlobalWord>* global = nullptr;  // of the whole launch, by address / 2
    uint32_t agents = 0, capacity = 0;
    uint64_t random = 0;
    std::vector<Block> blocks;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Fiber*> runnable;
    std::vector<AsyncCopy> in_flight;
    std::vector<Copy*> copies;  // that have not landed
    std::vector<Range> ranges;
    Barrier barrier;
    std::map<const void*, Clock> counters;      // what those who added to a counter knew
    std::map<const void*, SharedWord> letters;  // 16-byte words of global memory that blocks exchange
    std::unordered_map<uintptr_t, RelaxedWord> relaxed;  // by address
    long long spins = 0;
    jmp_buf scheduler;
    std::string failure;
};

extern Cluster* cluster;
extern Fiber* self;

void block_here(const char* what);  // gives way until woken
void give_way();                    // lets others run first
uint64_t random_below(uint64_t limit);
void wake(Fiber* fiber);
void land(Copy& copy);
void arrive_and_wait(Barrier& barrier, size_t expected, const char* what, bool orders_memory);
}  // namespace emulation
