/**
 * Every helper with one argument after the other replaced by everything that a register may hold, in many program types,
 * beside the kernel: whatever the kernel refuses, ours must not accept. The other arguments are what the contract asks for.
 */
import assert from "node:assert/strict";
import { decodeReport, encodeRequest, type MapFacts, verifyBytes } from "@weir/verifier";
import {
  alu,
  assemble,
  call,
  exit,
  jump,
  jumpReg,
  type Line,
  load,
  loadFunction,
  loadMap,
  mov,
  movReg,
  store,
  storeImm,
} from "../../datapath/verifier/asm.ts";
import { Kernel, type KernelMap } from "../../scripts/probe/kernel.ts";
import { probedType } from "../../scripts/probe/program_types.ts";

const available = Kernel.available();
if (!available) console.log("SKIP helper arguments in the kernel: this process may not load eBPF programs");

/** Program types, with where their contexts have a socket, and a packet. */
const PROGRAMS: readonly (readonly [string, number | null, readonly [number, number] | null])[] = [
  ["sched_cls", 168, [76, 80]],
  ["xdp", null, [0, 4]],
  ["sk_skb", 168, [76, 80]],
  ["sock_ops", 184, null],
  ["cgroup_skb/egress", 168, [76, 80]],
  ["cgroup_sock/create", null, null],
  ["connect4", 64, null],
  ["sk_msg", 96, null],
  ["sk_lookup", 0, null],
  ["sk_reuseport", 40, null],
  ["cgroup_setsockopt", 0, null],
  ["lwt_xmit", null, [76, 80]],
  ["flow_dissector", null, [76, 80]],
  ["kprobe", null, null],
  ["tracepoint", null, null],
  ["syscall", null, null],
  ["socket_filter", null, null],
  ["cgroup_sysctl", null, null],
  ["cgroup_device", null, null],
  ["netfilter", null, null],
  ["perf_event", null, null],
  ["raw_tracepoint", null, null],
  ["lwt_seg6local", null, [76, 80]],
];

/** `WEIR_EVERY=1` asks everything of every type. */
const EVERY = Number(Deno.env.get("WEIR_EVERY") ?? 5);
const PROGRAM_ARRAY = 3, PRANDOM = 7, RESERVE = 131, DISCARD = 133;

const CONTRACTS = new URL("../../datapath/verifier/profile/helper_contracts.txt", import.meta.url);
/** Number, name and argument kinds of each helper. */
const helpers = Deno.readTextFileSync(CONTRACTS).split("\n").filter((line) => /^\d/.test(line)).map(
  (line) => {
    const [id, name, , , ...kinds] = line.split(" ");
    return { id: Number(id), name, kinds };
  },
);

/** The map type that suits a helper; an array else. */
// deno-fmt-ignore
const MAP_OF: Record<number, number> = {
  12: 3, 22: 4, 25: 4, 55: 4, 27: 7, 33: 8, 37: 8, 51: 14, 52: 15, 53: 15, 60: 15, 70: 18, 71: 18, 72: 18, 81: 19,
  82: 20, 87: 22, 88: 22, 89: 22, 107: 24, 108: 24, 111: 4, 121: 4, 130: 27, 131: 27, 134: 27, 156: 29, 157: 29,
  195: 6, 210: 32, 211: 32,
};

const geometry = (type: number): KernelMap => {
  const plain = { type, keyBytes: 4, valueBytes: 8, entriesMax: 4 };
  if ([3, 4, 8, 14, 15, 18].includes(type)) return { ...plain, valueBytes: 4 };
  if (type === 7) return { ...plain, valueBytes: 64 };
  if (type === 19) return { ...plain, keyBytes: 16, entriesMax: 0 };
  if (type === 22) return { ...plain, keyBytes: 0 };
  if (type === 27) return { ...plain, keyBytes: 0, valueBytes: 0, entriesMax: 4096 };
  return plain;
};

/** What an argument of a kind is given. R6 context, R8 socket or ring buffer memory. */
function suitable(register: number, kind: string, map: number): Line[] {
  const stack: Line[] = [movReg(register, 10), alu("add", register, -64)];
  if (kind.startsWith("ctx")) return [movReg(register, 6)];
  if (kind === "map") return [loadMap(register, map)];
  if (["size", "size0", "asize"].includes(kind)) return [mov(register, 8)];
  if (kind.startsWith("sock") || kind.startsWith("bs") || kind === "rbref") return [movReg(register, 8)];
  if (kind === "func") return [loadFunction(register, "callback")];
  if (kind === "any" || kind === "any?") return [mov(register, 0)];
  return stack;
}

/** Memory of the ring buffer in R7. */
function reserve(ringbuf: number): Line[] {
  return [loadMap(1, ringbuf), mov(2, 8), mov(3, 0), call(RESERVE), movReg(7, 0), jump("eq", 7, 0, "out")];
}

/** Everything that a register may hold, as instructions that put it into R7; calls are allowed. */
function values(
  sock: number | null,
  packet: readonly [number, number] | null,
  maps: { array: number; ringbuf: number; readOnly: number },
): [string, Line[]][] {
  const lookup = (map: number): Line[] => [
    storeImm(4, 10, -4, 1),
    store(4, 10, -4, 9),
    loadMap(1, map),
    movReg(2, 10),
    alu("add", 2, -4),
    call(1),
    movReg(7, 0),
  ];
  const found: [string, Line[]][] = [
    ["0", [mov(7, 0)]],
    ["-1", [mov(7, -1)]],
    ["1", [mov(7, 1)]],
    ["16", [mov(7, 16)]],
    ["65", [mov(7, 65)]],
    ["2^29", [mov(7, 1 << 29)]],
    ["a number", [movReg(7, 9)]],
    ["a small number", [movReg(7, 9), alu("and", 7, 15)]],
    ["a negative number", [movReg(7, 9), alu("and", 7, 15), alu("sub", 7, 8)]],
    ["the context", [movReg(7, 6)]],
    ["the context, moved", [movReg(7, 6), alu("add", 7, 8)]],
    ["the stack", [movReg(7, 10), alu("add", 7, -64)]],
    ["the top of the stack", [movReg(7, 10)]],
    ["the end of the stack", [movReg(7, 10), alu("add", 7, -4)]],
    ["the stack, unwritten", [movReg(7, 10), alu("add", 7, -512)]],
    ["below the stack", [movReg(7, 10), alu("add", 7, -516)]],
    ["the stack, misaligned", [movReg(7, 10), alu("add", 7, -61)]],
    ["a map", [loadMap(7, maps.array)]],
    ["a function", [loadFunction(7, "callback")]],
    ["a map value or NULL", lookup(maps.array)],
    ["a map value", [...lookup(maps.array), jump("eq", 7, 0, "out")]],
    ["the end of a map value", [...lookup(maps.array), jump("eq", 7, 0, "out"), alu("add", 7, 4)]],
    ["behind a map value", [...lookup(maps.array), jump("eq", 7, 0, "out"), alu("add", 7, 8)]],
    ["a map value to be read only", [...lookup(maps.readOnly), jump("eq", 7, 0, "out")]],
    ["ring buffer memory", reserve(maps.ringbuf)],
    ["nothing", []],
  ];
  if (sock !== null) {
    found.push(
      ["a socket or NULL", [load(8, 7, 6, sock)]],
      ["a socket", [load(8, 7, 6, sock), jump("eq", 7, 0, "out")]],
      ["a kernel's socket or NULL", [
        load(8, 1, 6, sock),
        jump("eq", 1, 0, "out"),
        call(137),
        movReg(7, 0),
      ]],
      ["a kernel's socket", [
        load(8, 1, 6, sock),
        jump("eq", 1, 0, "out"),
        call(137),
        movReg(7, 0),
        jump("eq", 7, 0, "out"),
      ]],
    );
  }
  if (packet !== null) {
    const proved: Line[] = [
      load(4, 7, 6, packet[0]),
      load(4, 1, 6, packet[1]),
      movReg(2, 7),
      alu("add", 2, 64),
      jumpReg("gt", 2, 1, "out"),
    ];
    found.push(
      ["the packet", [load(4, 7, 6, packet[0])]],
      ["the packet, proved", proved],
      ["the end of the packet", [load(4, 7, 6, packet[1])]],
      ["behind the packet", [...proved, alu("add", 7, 60)]],
    );
  }
  return found;
}

interface Made extends KernelMap {
  readonly fd: number;
}

/** Maps that are made when they are first asked for. */
class Maps {
  readonly made = new Map<string, Made>();

  constructor(readonly kernel: Kernel) {}

  /** Null when the kernel will not make it without more than this test knows. */
  of(type: number, flags = 0): Made | null {
    const key = `${type} ${flags}`, known = this.made.get(key);
    if (known !== undefined) return known;
    const map = { ...geometry(type), flags };
    try {
      const made = { ...map, fd: this.kernel.createMap(map) };
      this.made.set(key, made);
      return made;
    } catch {
      return null;
    }
  }

  /** A map of programs belongs to the type of the first one that uses it. */
  forgetPrograms(): void {
    const programs = this.made.get(`${PROGRAM_ARRAY} 0`);
    if (programs !== undefined) this.kernel.closeFd(programs.fd);
    this.made.delete(`${PROGRAM_ARRAY} 0`);
  }

  facts(): MapFacts[] {
    return [...this.made.values()].map(({ fd, type, keyBytes, valueBytes, entriesMax, flags }) => ({
      handle: fd,
      type,
      keySize: keyBytes,
      valueSize: valueBytes,
      maxEntries: entriesMax,
      flags: flags ?? 0,
    }));
  }
}

/** A call of a helper, with everything as it should be but argument `at`, which is what `lines` put into R7. */
function programOf(
  { id, kinds }: (typeof helpers)[number],
  at: number,
  [what, lines]: [string, Line[]],
  socket: Line[],
  map: number,
  ringbuf: number,
): { instructions: Uint8Array<ArrayBuffer>; callback: boolean } {
  const reserves = kinds.includes("rbref");
  const program: Line[] = [
    movReg(6, 1),
    call(PRANDOM),
    movReg(9, 0),
    ...[-64, -56, -48, -40, -32, -24, -16, -8].map((offset) => storeImm(8, 10, offset, 0)),
    ...socket,
    ...(reserves ? [...reserve(ringbuf), movReg(8, 7)] : []),
    ...lines,
    ...kinds.flatMap((other, n) => n === at ? [] : suitable(n + 1, other, map)),
    ...(what === "nothing" ? [] : [movReg(at + 1, 7)]),
    call(id),
    ...(what === "ring buffer memory" && !reserves ? [movReg(1, 7), mov(2, 0), call(DISCARD)] : []),
    "out",
    mov(0, 1),
    exit(),
  ];
  // what nothing jumps to may not be there
  const callback = program.some((line) => typeof line === "object" && line.to === "callback");
  return {
    instructions: assemble(callback ? [...program, "callback", mov(0, 0), exit()] : program),
    callback,
  };
}

Deno.test({
  name: "verifier: no argument of a helper is accepted that the kernel refuses",
  ignore: !available,
  fn: () => {
    const module = new WebAssembly.Module(
      Deno.readFileSync(new URL("../../.build/verifier.wasm", import.meta.url)),
    );
    const kernel = new Kernel(), maps = new Maps(kernel);
    const array = maps.of(2)!.fd, ringbuf = maps.of(27)!.fd, readOnly = maps.of(2, 0x80)!.fd;
    const wrong: string[] = [];
    let count = 0, accepted = 0;
    try {
      for (const [column, [name, sock, packet]] of PROGRAMS.entries()) {
        const { type, attach, flags } = probedType(name);
        const found = values(sock, packet, { array, ringbuf, readOnly });
        maps.forgetPrograms();
        for (const helper of helpers) {
          const { id, kinds } = helper;
          const map = maps.of(MAP_OF[id] ?? 2)?.fd ?? array;
          const needsSocket = kinds.some((kind) => kind.startsWith("sock") || kind === "bskc");
          if (needsSocket && sock === null) continue;
          const socket: Line[] = needsSocket ? [load(8, 8, 6, sock!), jump("eq", 8, 0, "out")] : [];
          for (let at = 0; at < kinds.length; at++) {
            for (const [n, value] of found.entries()) {
              // all of them take minutes: each is asked of some types
              if (EVERY > 1 && (column + id + at + n) % EVERY !== 0) continue;
              const { instructions, callback } = programOf(helper, at, value, socket, map, ringbuf);
              const request = encodeRequest({
                name: "argument",
                programType: type,
                attachType: attach,
                programFlags: flags,
                gplCompatible: true,
                instructions,
                maps: maps.facts(),
              });
              count++;
              if (decodeReport(verifyBytes(module, request)).verdict !== "accepted") continue;
              const loaded = kernel.load({
                type,
                expectedAttachType: attach,
                flags,
                instructions,
                describeFunctions: callback,
              });
              if (loaded.ok) {
                accepted++;
                kernel.closeFd(loaded.fd);
                continue;
              }
              const reason = loaded.log.trim().split("\n").findLast((line) =>
                !/^(processed|verif|stack depth)/.test(line)
              );
              wrong.push(
                `${name}: ${helper.name}, argument ${at + 1} (${kinds[at]}): ${value[0]}: ${reason}`,
              );
            }
          }
        }
      }
    } finally {
      kernel.close();
    }
    console.log(`  ${helpers.length} helpers, ${count} programs, ${accepted} accepted by both`);
    assert.deepEqual(wrong, []);
    assert.ok(accepted > 1000, `${accepted} accepted`);
  },
});
