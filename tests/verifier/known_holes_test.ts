/**
 * Programs that a released kernel accepted although they are unsafe (fixed after 6.18), and shapes that sent
 * other verifiers into minutes: by hand, for they are in no selftest that can be fetched here.
 */
import assert from "node:assert/strict";
import { encodeNodes, type Node, node } from "./program.ts";
import { Subject } from "./subject.ts";

const MAP = { fd: 5, type: 2, keyBytes: 4, valueBytes: 64, entriesMax: 1, flags: 0 };
const exit = node(0x95);
const mapValue = (dst: number): Node => node(0x18, { dst, src: 2, immediate: MAP.fd, high: 0 });
const random = node(0x85, { immediate: 7 });

function judge(nodes: readonly Node[], type = 3) {
  const subject = new Subject();
  try {
    return subject.verify(
      { type, attach: 0, flags: 0, instructions: encodeNodes(nodes), maps: [MAP] },
      false,
    );
  } finally {
    subject.close();
  }
}

/** `data` in R2, `data_end` in R3, of a tc program. */
const PACKET = [node(0x61, { dst: 2, src: 1, offset: 76 }), node(0x61, { dst: 3, src: 1, offset: 80 })];

/** R4 is beyond the end, then moved, and compared again: the second comparison is open. */
function movedBeyondEnd(move: Node): Node[] {
  return [
    ...PACKET,
    node(0xbf, { dst: 4, src: 2 }),
    node(0x07, { dst: 4, immediate: 8 }),
    node(0x2d, { dst: 4, src: 3, target: 7 }),
    node(0xb7),
    exit,
    move,
    node(0x2d, { dst: 4, src: 3, target: 11 }),
    // Not reached if the moved pointer were still beyond the end; it is not.
    node(0x79, { dst: 0, src: 4, offset: 100 }),
    node(0x05, { target: 11 }),
    node(0xb7),
    exit,
  ];
}

const UNSAFE: [string, Node[]][] = [
  ["a callee's store through a number plus R10 overwrites its own spilled pointer", [
    node(0x7a, { dst: 10, offset: -8, immediate: 0 }),
    node(0x85, { src: 1, target: 3 }),
    exit,
    mapValue(1),
    node(0x7b, { dst: 10, src: 1, offset: -8 }),
    node(0xb7, { dst: 6, immediate: -8 }),
    node(0x0f, { dst: 6, src: 10 }),
    node(0xb7, { dst: 2, immediate: 0xdead }),
    node(0x7b, { dst: 6, src: 2 }),
    node(0x79, { dst: 1, src: 10, offset: -8 }),
    node(0x79, { dst: 0, src: 1 }),
    exit,
  ]],
  [
    "adding to a packet pointer forgets that it was beyond the end",
    movedBeyondEnd(node(0x07, { dst: 4, immediate: -8 })),
  ],
  [
    "subtracting from a packet pointer forgets that it was beyond the end",
    movedBeyondEnd(node(0x17, { dst: 4, immediate: 8 })),
  ],
  ["a socket lookup's tuple must not be NULL", [
    node(0xb7, { dst: 2 }),
    node(0xb7, { dst: 3, immediate: 12 }),
    node(0xb7, { dst: 4 }),
    node(0xb7, { dst: 5 }),
    node(0x85, { immediate: 84 }),
    node(0x15, { dst: 0, target: 8 }),
    node(0xbf, { dst: 1, src: 0 }),
    node(0x85, { immediate: 86 }),
    node(0xb7),
    exit,
  ]],
];

Deno.test("verifier: refuses the unsafe programs that a released kernel accepts", () => {
  for (const [name, nodes] of UNSAFE) {
    const { verdict, message } = judge(nodes);
    assert.ok(verdict === "unsafe" || verdict === "not-proved", `${name}: ${verdict} ${message}`);
  }
});

Deno.test("verifier: accepts the same shapes with the mistake taken out", () => {
  const callee = UNSAFE[0][1].filter((node) => node.opcode !== 0x7b || node.dst !== 6);
  assert.equal(judge(callee).verdict, "accepted", judge(callee).message);
  const moved = movedBeyondEnd(node(0x07, { dst: 4, immediate: -8 })).map((node) =>
    node.opcode === 0x79 ? { ...node, opcode: 0xb7, src: 0, offset: 0 } : node
  );
  assert.equal(judge(moved).verdict, "accepted", judge(moved).message);
});

/** Every branch doubles the states when nothing can be pruned: bits of a random number pile up in the stack. */
function exponential(branches: number): Node[] {
  const nodes: Node[] = [node(0x7a, { dst: 10, offset: -8 })];
  for (let index = 0; index < branches; index++) {
    const slot = -8 * (index % 60 + 1);
    nodes.push(random, node(0x7b, { dst: 10, src: 0, offset: slot }));
    nodes.push(
      node(0x45, { dst: 0, immediate: 1, target: nodes.length + 2 }),
      node(0x7a, { dst: 10, offset: slot, immediate: index }),
    );
  }
  // All of it is read in the end, so that no difference may be forgotten.
  for (let slot = 1; slot <= Math.min(60, branches); slot++) {
    nodes.push(
      node(0x79, { dst: 1, src: 10, offset: -8 * slot }),
      node(0x55, { dst: 1, immediate: slot - 1, target: nodes.length + 3 }),
      random,
    );
  }
  return [...nodes, node(0xb7), exit];
}

/** Every function calls the next one twice: 2^n visits for a verifier that walks each call anew. */
function nestedCalls(depth: number): Node[] {
  const nodes: Node[] = [];
  const bytes = 5;
  for (let level = 0; level < depth; level++) {
    const next = (level + 1) * bytes;
    nodes.push(
      random,
      node(0x85, { src: 1, target: next }),
      random,
      node(0x85, { src: 1, target: next }),
      exit,
    );
  }
  return [...nodes, random, exit];
}

/** bpf_loop in a callback of bpf_loop, `depth` deep, with two branches at each level. */
function nestedLoops(depth: number): Node[] {
  const nodes: Node[] = [];
  const each = 13;
  for (let level = 0; level <= depth; level++) {
    const next = (level + 1) * each;
    nodes.push(
      random,
      node(0x15, { dst: 0, immediate: 1, target: level * each + 3 }),
      node(0x7a, { dst: 10, offset: -8, immediate: level }),
      random,
      node(0x15, { dst: 0, immediate: 2, target: level * each + 6 }),
      node(0x7a, { dst: 10, offset: -16, immediate: level }),
    );
    if (level < depth) {
      nodes.push(
        node(0xb7, { dst: 1, immediate: 1000 }),
        node(0x18, { dst: 2, src: 4, high: 0, target: next }),
        node(0xb7, { dst: 3 }),
        node(0xb7, { dst: 4 }),
        node(0x85, { immediate: 181 }),
      );
    } else nodes.push(...Array.from({ length: 5 }, () => node(0xb7)));
    nodes.push(node(0xb7), exit);
  }
  return nodes;
}

/** A program as large as the kernel takes: `count` instructions, one of `every` a jump that is never taken. */
function large(count: number, every: number): Node[] {
  const nodes: Node[] = [node(0xb7)];
  while (nodes.length < count - 1) {
    const jumps = nodes.length % every === 0 && nodes.length < count - 2;
    nodes.push(jumps ? node(0x55, { target: nodes.length + 2 }) : node(0xb7, { dst: 1, immediate: 1 }));
  }
  return [...nodes, exit];
}

/** `count` branches that all stay open until the end, where all their other sides lie. */
function openBranches(count: number): Node[] {
  const branches = Array.from({ length: count }, () => node(0x2d, { src: 7, target: count + 2 }));
  return [node(0x61, { dst: 7, src: 1 }), random, ...branches, node(0xb7), exit];
}

Deno.test("verifier: 8192 branches may wait, as in the kernel, and not one more", () => {
  assert.equal(judge(openBranches(8192)).verdict, "accepted");
  assert.equal(judge(openBranches(8193)).code, "WV0033");
});

/** A counter that the number domain narrows by one in each round: PREVAIL takes minutes for it. */
function narrowing(compare: number, immediate: number): Node[] {
  return [
    node(0x61, { dst: 2, src: 1, offset: 8 }),
    node(0x67, { dst: 2, immediate: 32 }),
    node(0x07, { dst: 2, immediate: 1 }),
    node(compare, { dst: 2, immediate, target: 2 }),
    node(0xb7),
    exit,
  ];
}

Deno.test("verifier: shapes that explode end within the limits", () => {
  const shapes: [string, Node[]][] = [
    ["200 branches that cannot be pruned", exponential(200)],
    ["two calls a level, seven levels", nestedCalls(7)],
    ["a loop of a million rounds", [
      node(0xb7, { dst: 1 }),
      node(0x07, { dst: 1, immediate: 1 }),
      node(0xa5, { dst: 1, immediate: 1_000_000, target: 1 }),
      node(0xb7),
      exit,
    ]],
    ["a loop in a loop in a loop", [
      node(0xb7, { dst: 1 }),
      node(0xb7, { dst: 2 }),
      node(0xb7, { dst: 3 }),
      node(0x07, { dst: 3, immediate: 1 }),
      node(0xa5, { dst: 3, immediate: 1000, target: 3 }),
      node(0x07, { dst: 2, immediate: 1 }),
      node(0xa5, { dst: 2, immediate: 1000, target: 2 }),
      node(0x07, { dst: 1, immediate: 1 }),
      node(0xa5, { dst: 1, immediate: 1000, target: 1 }),
      node(0xb7),
      exit,
    ]],
    ["a counter above 32 bits", narrowing(0xa5, -1)],
    ["a signed counter", narrowing(0xc5, 0x7fffffff)],
    ["callbacks in callbacks, six levels", nestedLoops(6)],
    ["a million instructions", large(1_000_000, 1_000_000)],
    ["300,000 instructions, half of them jumps", large(300_000, 2)],
    ["60,000 instructions, a tenth of them jumps", large(60_000, 10)],
    ["9,000 branches one after another", [
      random,
      ...Array.from({ length: 9000 }, (_, index) => node(0x15, { immediate: index + 1, target: index + 2 })),
      node(0xb7),
      exit,
    ]],
  ];
  for (const [name, nodes] of shapes) {
    const { verdict, message, report } = judge(nodes);
    assert.ok(["accepted", "limit"].includes(verdict), `${name}: ${verdict} ${message}`);
    if (report !== null) assert.ok(report.memoryBytes <= 64 << 20, `${name}: ${report.memoryBytes} bytes`);
  }
});
