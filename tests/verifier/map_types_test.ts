/**
 * Every map type with every helper that takes a map, and with every access to what lookups and walks give, in many program
 * types, beside the kernel: whatever the kernel refuses, ours must not accept.
 */
import assert from "node:assert/strict";
import { decodeReport, encodeRequest, type MapFacts, verifyBytes } from "@weir/verifier";
import {
  alu,
  assemble,
  atomic,
  call,
  exit,
  jump,
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
if (!available) console.log("SKIP map types in the kernel: this process may not load eBPF programs");

const QUEUE = 22;
const READ_ONLY = 0x80, WRITE_ONLY = 0x100, NO_PREALLOC = 1;
const PROGRAMS = [
  "sched_cls",
  "xdp",
  "sk_skb",
  "sock_ops",
  "cgroup_skb/egress",
  "cgroup_sock/create",
  "sk_msg",
  "sk_lookup",
  "sk_reuseport",
  "tracepoint",
  "syscall",
];

interface Facts extends KernelMap {
  readonly fd: number;
  readonly inner?: Facts;
}

const geometry = (type: number): KernelMap => {
  const plain = { type, keyBytes: 4, valueBytes: 8, entriesMax: 4 };
  switch (type) {
    case 3: // prog, perf event, cgroup arrays
    case 4:
    case 8:
    case 15:
    case 16:
    case 17:
    case 18:
      return { ...plain, valueBytes: 4 };
    case 7:
      return { ...plain, valueBytes: 64 };
    case 11:
      return { ...plain, keyBytes: 8, flags: NO_PREALLOC };
    case 19: // storage of control groups
    case 21:
      return { ...plain, keyBytes: 16, entriesMax: 0 };
    case 22: // queues and filters have no keys
    case 23:
    case 30:
      return { ...plain, keyBytes: 0 };
    case 27:
    case 31:
      return { ...plain, keyBytes: 0, valueBytes: 0, entriesMax: 4096 };
    case 33:
      return { ...plain, keyBytes: 0, valueBytes: 0, flags: 1 << 10 };
    default:
      return plain;
  }
};

/** All maps that this kernel makes. */
function makeMaps(kernel: Kernel): Facts[] {
  const found: Facts[] = [];
  const make = (map: KernelMap, inner?: Facts): Facts | undefined => {
    try {
      const fd = kernel.createMap({ ...map, innerFd: inner?.fd });
      return { ...map, fd, ...(inner === undefined ? {} : { inner }) };
    } catch {
      return undefined;
    }
  };
  const inner = make(geometry(2));
  for (let type = 1; type < 40; type++) {
    const map = geometry(type), isOuter = type === 12 || type === 13;
    for (const flags of [0, READ_ONLY, WRITE_ONLY]) {
      const made = isOuter
        ? make({ ...map, valueBytes: 4, flags }, inner)
        : make({ ...map, flags: (map.flags ?? 0) | flags });
      if (made !== undefined) found.push(made);
    }
  }
  return found;
}

const end: Line[] = ["out", mov(0, 1), exit()];
const stack = (register: number): Line[] => [movReg(register, 10), alu("add", register, -64)];
const context: Line = movReg(1, 6);

/** A call by number, with what is to be in R1 to R5. */
function helperCalls({ fd }: Facts): [string, Line[]][] {
  const map = (register: number): Line => loadMap(register, fd);
  const of = (helper: number, ...arguments_: Line[][]): [string, Line[]] => [
    `helper ${helper}`,
    [...arguments_.flat(), call(helper)],
  ];
  const ringbuf: Line[] = [map(1), mov(2, 8), mov(3, 0), call(131), jump("eq", 0, 0, "out")];
  return [
    of(2, [map(1)], stack(2), stack(3), [mov(4, 0)]),
    of(3, [map(1)], stack(2)),
    of(12, [context, map(2), mov(3, 0)]),
    of(22, [map(1), mov(2, 0)]),
    of(25, [context, map(2), mov(3, 0)], stack(4), [mov(5, 8)]),
    of(27, [context, map(2), mov(3, 0)]),
    of(33, [context, map(2), mov(3, 0)]),
    of(37, [map(1), mov(2, 0)]),
    of(51, [map(1), mov(2, 0), mov(3, 0)]),
    ...[52, 60].map((helper) => of(helper, [context, map(2), mov(3, 0), mov(4, 0)])),
    ...[53, 70, 71, 72, 82].map((helper) => of(helper, [context, map(2)], stack(3), [mov(4, 0)])),
    of(55, [map(1), mov(2, 0)], stack(3), [mov(4, 24)]),
    of(81, [map(1), mov(2, 0)]),
    of(87, [map(1)], stack(2), [mov(3, 0)]),
    of(88, [map(1)], stack(2)),
    of(89, [map(1)], stack(2)),
    of(130, [map(1)], stack(2), [mov(3, 8), mov(4, 0)]),
    ["ring buffer memory", [...ringbuf, storeImm(8, 0, 0, 1), movReg(1, 0), mov(2, 0), call(132)]],
    ["ring buffer memory, lost", ringbuf],
    of(134, [map(1), mov(2, 0)]),
  ];
}

/** What may be done with a pointer in R0 of `bytes`; `queue` holds values of 8. */
function accesses(bytes: number, queue: number): [string, Line[]][] {
  const key: Line[] = [loadMap(1, queue), movReg(2, 0), call(89)];
  return [
    ["nothing", []],
    ["read", [load(1, 1, 0, 0)]],
    ["read 4", [load(4, 1, 0, 0)]],
    ["read at its end", [load(1, 1, 0, Math.max(bytes - 1, 0))]],
    ["read beyond", [load(1, 1, 0, bytes)]],
    ["write", [storeImm(1, 0, 0, 1)]],
    ["write 8", [mov(1, 1), store(8, 0, 0, 1)]],
    ["write beyond", [storeImm(1, 0, bytes, 1)]],
    ["write a pointer", [store(8, 0, 0, 10)]],
    ["add", [mov(1, 1), atomic(8, 0, 0, 0, 1)]],
    ["exchange", [mov(1, 1), atomic(4, 0xe1, 0, 0, 1)]],
    ["let a helper write", key],
    ["release", [movReg(1, 0), call(86)]],
    ["look up in it", [movReg(1, 0), ...stack(2), call(1)]],
    ["look up in it and write", [
      movReg(1, 0),
      ...stack(2),
      call(1),
      jump("eq", 0, 0, "out"),
      storeImm(4, 0, 0, 1),
    ]],
  ];
}

function programs(map: Facts, queue: number): [string, Line[]][] {
  const found = helperCalls(map).map(([name, lines]): [string, Line[]] => [name, [...lines, ...end]]);
  const lookups: [string, Line[]][] = [
    ["lookup", [loadMap(1, map.fd), ...stack(2), call(1)]],
    ["lookup of a CPU", [loadMap(1, map.fd), ...stack(2), mov(3, 0), call(195)]],
    ["storage", [loadMap(1, map.fd), mov(2, 0), call(81)]],
  ];
  for (const [lookup, lines] of lookups) {
    for (const [access, after] of accesses(map.valueBytes, queue)) {
      found.push([`${lookup}, ${access}`, [...lines, jump("eq", 0, 0, "out"), ...after, ...end]]);
    }
    found.push([`${lookup}, not checked`, [...lines, load(1, 1, 0, 0), ...end]]);
  }
  for (const [access, after] of accesses(map.valueBytes, queue)) {
    for (const which of [2, 3]) {
      found.push([`walk, ${which === 2 ? "key" : "value"}, ${access}`, [
        loadMap(1, map.fd),
        loadFunction(2, "callback"),
        mov(3, 0),
        mov(4, 0),
        call(164),
        ...end,
        "callback",
        movReg(0, which),
        ...after.map((line) =>
          typeof line === "object" && line.to === "out" ? { ...line, to: "back" } : line
        ),
        "back",
        mov(0, 0),
        exit(),
      ]]);
    }
  }
  return found;
}

const head: Line[] = [movReg(6, 1), ...[8, 16, 24, 32, 40, 48, 56, 64].map((at) => storeImm(8, 10, -at, 0))];

Deno.test({
  name: "map types: what the kernel refuses of maps, helpers and accesses, ours does not accept",
  ignore: !available,
  fn: () => {
    const module = new WebAssembly.Module(
      Deno.readFileSync(new URL("../../.build/verifier.wasm", import.meta.url)),
    );
    const wrong: string[] = [];
    let count = 0, accepted = 0, types = 0;
    for (const program of PROGRAMS) {
      const { type, attach, flags } = probedType(program);
      // Maps of programs and devices belong to the type of the first program that uses them.
      const kernel = new Kernel();
      try {
        const maps = makeMaps(kernel);
        types = new Set(maps.map(({ type }) => type)).size;
        const queue = maps.find(({ type, flags }) => type === QUEUE && !flags)!;
        for (const map of maps) {
          for (const [what, lines] of programs(map, queue.fd)) {
            const instructions = assemble([...head, ...lines]);
            const request = encodeRequest({
              name: "map",
              programType: type,
              attachType: attach,
              programFlags: flags,
              gplCompatible: true,
              instructions,
              maps: (map === queue ? [map] : [map, queue]).map(facts),
            });
            count++;
            if (decodeReport(verifyBytes(module, request)).verdict !== "accepted") continue;
            const describeFunctions = what.startsWith("walk");
            const loaded = kernel.load({
              type,
              expectedAttachType: attach,
              flags,
              instructions,
              describeFunctions,
            });
            if (loaded.ok) {
              accepted++;
              kernel.closeFd(loaded.fd);
              continue;
            }
            const reason = loaded.log.trim().split("\n").findLast((line) => !/^(processed|verif)/.test(line));
            wrong.push(
              `map type ${map.type} flags ${
                map.flags ?? 0
              }, ${what}, ${program}: ${reason} (${loaded.errno})`,
            );
          }
        }
      } finally {
        kernel.close();
      }
    }
    console.log(`  ${types} map types, ${count} programs, ${accepted} accepted by both`);
    assert.deepEqual(wrong, []);
    assert.ok(types > 20 && accepted > 1000, `${types} map types, ${accepted} accepted`);
  },
});

function facts(map: Facts): MapFacts {
  const shape = ({ fd, type, keyBytes, valueBytes, entriesMax, flags }: Facts) => ({
    handle: fd,
    type,
    keySize: keyBytes,
    valueSize: valueBytes,
    maxEntries: entriesMax,
    flags: flags ?? 0,
  });
  return { ...shape(map), ...(map.inner === undefined ? {} : { inner: shape(map.inner) }) };
}
