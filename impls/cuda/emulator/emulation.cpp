// Runs an emulated grid: schedules fibres and flights in random order, one cluster after the other. A cluster that
// cannot go on, that leaves a send in the air, or that breaks a rule of device.cuh ends the run with a sentence.
#include "device.cuh"
#include "emulation.hpp"

extern "C" void emulated_kernel(const void*);

namespace emulation {

Cluster* cluster = nullptr;
Fibre* self = nullptr;
constexpr size_t STACK_BYTES = 64 << 10;
constexpr long long SPINS_LIMIT = 1 << 21;

void fail(const std::string& message) {
    throw Failure{"block " + std::to_string(self->block) + ", thread " + std::to_string(self->thread) + ": " + message};
}

void join(Clock& into, const Clock& from) {
    for (size_t i = 0; i < into.size(); ++i) into[i] = into[i] < from[i] ? from[i] : into[i];
}

static uint64_t random_below(uint64_t limit) {
    cluster->random = cluster->random * 6364136223846793005u + 1442695040888963407u;
    return (cluster->random >> 33) % limit;
}

void block_here(const char* what) {
    Fibre* const me = self;
    me->waits_for = what;
    if (!_setjmp(me->resume)) _longjmp(cluster->scheduler, 1);
    me->waits_for = "nothing";
}

void wake(Fibre* fibre) { cluster->runnable.push_back(fibre); }

void meet(Meeting& meeting, size_t expected, const char* what, bool orders_memory) {
    if (!meeting.arrived.empty() && std::strcmp(meeting.what, what) != 0)
        fail(std::string("calls ") + what + " while others of its group are in " + meeting.what);
    meeting.what = what;
    meeting.arrived.push_back(self);
    if (meeting.arrived.size() < expected) return block_here(what);
    std::vector<Fibre*> group;
    group.swap(meeting.arrived);
    if (orders_memory) {
        Clock all(cluster->capacity);
        for (Fibre* fibre : group) join(all, fibre->clock);
        for (Fibre* fibre : group) {
            fibre->clock = all;
            ++fibre->clock[fibre->agent];
        }
    }
    for (Fibre* fibre : group)
        if (fibre != self) wake(fibre);
}

void give_way() {
    if (++cluster->spins > SPINS_LIMIT) fail("spins for ever on a word of global memory");
    wake(self);
    block_here("a spin on global memory");
}

static void complete_if_due(Transfer& transfer) {
    if (!transfer.armed || transfer.bytes != 0) return;
    transfer.armed = false;
    ++transfer.phase;
    transfer.gathering[transfer.agent] = transfer.phase;
    transfer.completed = transfer.gathering;
    std::vector<std::pair<Fibre*, uint32_t>> still;
    for (auto& [fibre, parity] : transfer.waiting) {
        if ((transfer.phase & 1) != parity) {
            join(fibre->clock, transfer.completed);
            wake(fibre);
        } else still.emplace_back(fibre, parity);
    }
    transfer.waiting.swap(still);
}

static void land(size_t index) {
    const Flight flight = cluster->flights[index];
    cluster->flights[index] = cluster->flights.back();
    cluster->flights.pop_back();
    Block& block = cluster->blocks[flight.block];
    const std::string where = "a send to block " + std::to_string(flight.block);
    if (block.running == 0) throw Failure{where + " landed after that block had ended"};
    std::memcpy(&block.memory[flight.to], flight.value, flight.bytes);
    Transfer& transfer = block.transfers.at(flight.barrier);
    if (transfer.phase != flight.phase) throw Failure{where + " was counted in a later phase than it was sent in"};
    transfer.bytes -= flight.bytes;
    complete_if_due(transfer);
}

static Transfer& transfer_at(int block, unsigned offset) {
    auto found = cluster->blocks[block].transfers.find(offset);
    if (found == cluster->blocks[block].transfers.end()) fail("uses a transfer barrier before anyone created it");
    Transfer& transfer = found->second;
    if (self->clock[transfer.created.agent] < transfer.created.time)
        fail("uses a transfer barrier whose creation no barrier published");
    return transfer;
}

void transfer_init(unsigned barrier) {
    Transfer& transfer = cluster->blocks[self->block].transfers[barrier];
    transfer.agent = cluster->agents++;
    if (transfer.agent >= cluster->capacity) fail("creates more than 4 transfer barriers a block");
    transfer.gathering.assign(cluster->capacity, 0);
    transfer.created = {self->agent, self->clock[self->agent]};
}

void transfer_expect(unsigned barrier, unsigned bytes) {
    Transfer& transfer = transfer_at(self->block, barrier);
    if (transfer.armed) fail("arrives a second time in one phase of a transfer barrier");
    transfer.armed = true;
    transfer.bytes += bytes;
    join(transfer.gathering, self->clock);
    ++self->clock[self->agent];
    complete_if_due(transfer);
}

void transfer_wait(unsigned barrier, unsigned parity) {
    Transfer& transfer = transfer_at(self->block, barrier);
    if ((transfer.phase & 1) != parity) {
        if (transfer.phase == 0) fail("waits for the phase before the first");
        join(self->clock, transfer.completed);
        return;
    }
    transfer.waiting.emplace_back(self, parity);
    block_here("transfer_wait");
}

void send(unsigned to, unsigned barrier, const void* from, unsigned bytes) {
    const int block = to >> 24;
    to &= 0xffffffu, barrier &= 0xffffffu;
    if (block >= cluster->size) fail("sends to a block that is not in the cluster");
    if (to % bytes || to + bytes > cluster->blocks[block].memory.size()) fail("sends to a place misaligned or outside");
    Transfer& transfer = transfer_at(block, barrier);
    for (unsigned at = to; at < to + bytes; at += 4) {
        SharedWord& word = cluster->blocks[block].words[at / 4];
        const Access by = word.written;
        if (by.agent != NOBODY && self->clock[by.agent] < by.time) fail("sends over a value whose write it does not know of");
        for (const Access read : word.read)
            if (self->clock[read.agent] < read.time)
                fail("sends over a value that thread " + std::to_string(read.agent) + " of the cluster may not have read yet");
        word.read.clear();
        word.written = {transfer.agent, transfer.phase + 1};
    }
    Flight flight{block, to, barrier, bytes, transfer.phase, {}};
    std::memcpy(flight.value, from, bytes);
    cluster->flights.push_back(flight);
    join(transfer.gathering, self->clock);
    ++self->clock[self->agent];
}

static const void* kernel_arguments = nullptr;

static void entry() {
    try {
        emulated_kernel(kernel_arguments);
        if (self->grouped) fail("ends between group_begin and group_end");
    } catch (const Failure& failure) {
        cluster->failure = failure.message;
    }
    self->finished = true;
    --cluster->blocks[self->block].running;
    _longjmp(cluster->scheduler, 1);
}

static void resume(Fibre* fibre) {
    self = fibre;
    if (_setjmp(cluster->scheduler)) return;
    if (fibre->started) _longjmp(fibre->resume, 1);
    fibre->started = true;
    setcontext(&fibre->context);
}

static void run_cluster() {
    while (true) {
        const size_t runnable = cluster->runnable.size(), flying = cluster->flights.size();
        if (!cluster->failure.empty()) throw Failure{cluster->failure};
        if (runnable + flying == 0) break;
        const size_t chosen = random_below(runnable + flying);
        if (chosen >= runnable) {
            land(chosen - runnable);
            continue;
        }
        Fibre* const fibre = cluster->runnable[chosen];
        cluster->runnable[chosen] = cluster->runnable.back();
        cluster->runnable.pop_back();
        resume(fibre);
    }
    for (const auto& fibre : cluster->fibres)
        if (!fibre->finished)
            throw Failure{"deadlock: thread " + std::to_string(fibre->thread) + " of block " + std::to_string(fibre->block) +
                          " waits for ever in " + fibre->waits_for};
}

static void add_fibre(int block, int thread) {
    auto fibre = std::make_unique<Fibre>();
    fibre->block = block, fibre->thread = thread, fibre->agent = block * cluster->threads + thread;
    fibre->clock.assign(cluster->capacity, 0);
    fibre->clock[fibre->agent] = 1;
    fibre->fenced = fibre->seen = Clock(cluster->capacity);
    fibre->stack.reset(new char[STACK_BYTES]);
    getcontext(&fibre->context);
    fibre->context.uc_stack.ss_sp = fibre->stack.get();
    fibre->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fibre->context, entry, 0);
    cluster->runnable.push_back(fibre.get());
    cluster->fibres.push_back(std::move(fibre));
}

static void populate(int threads, unsigned shared_bytes) {
    cluster->agents = cluster->size * threads;
    cluster->capacity = cluster->agents + 4 * cluster->size;
    cluster->blocks.resize(cluster->size);
    for (int b = 0; b < cluster->size; ++b) {
        Block& block = cluster->blocks[b];
        block.memory.assign(shared_bytes, 0xff);  // NaN in every float format
        block.words.resize(shared_bytes / 4 + 1);
        block.warps.resize(threads / 32);
        block.running = threads;
        for (int t = 0; t < threads; ++t) add_fibre(b, t);
    }
}
}  // namespace emulation

// Runs the kernel this library was linked with. `grid` is in blocks; `ranges` holds begin, end, writable of every array
// the kernel may touch. Returns null, or a sentence that is valid until the next call.
extern "C" __attribute__((visibility("default"))) const char* emulate(const int* grid, int cluster_size, int threads, unsigned shared_bytes, uint64_t seed,
                               const void* arguments, const int64_t* ranges, int range_count) {
    using namespace emulation;
    static std::string message;
    kernel_arguments = arguments;
    std::unordered_map<uintptr_t, GlobalWord> global;
    int number = 0;
    try {
        for (int z = 0; z < grid[2]; ++z)
            for (int y = 0; y < grid[1]; ++y)
                for (int x = 0; x < grid[0]; x += cluster_size) {
                    Cluster fresh;
                    cluster = &fresh;
                    fresh.number = number++, fresh.global = &global;
                    fresh.size = cluster_size, fresh.threads = threads, fresh.random = seed + 977 * x + 31 * y + z;
                    fresh.position[0] = x, fresh.position[1] = y, fresh.position[2] = z;
                    for (int i = 0; i < range_count; ++i)
                        fresh.ranges.push_back({reinterpret_cast<const char*>(ranges[3 * i]),
                                                reinterpret_cast<const char*>(ranges[3 * i + 1]), ranges[3 * i + 2] != 0});
                    populate(threads, shared_bytes);
                    run_cluster();
                }
    } catch (const Failure& failure) {
        message = failure.message;
        return message.c_str();
    }
    return nullptr;
}
