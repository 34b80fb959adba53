/** What strict mode refuses beyond safety: each program here is accepted without it. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import {
  alu,
  aluReg,
  assemble,
  atomic,
  call,
  exit,
  jump,
  jump32,
  jumpReg,
  type Line,
  load,
  loadMap,
  loadMapValue,
  mov,
  movReg,
  store,
  storeImm,
} from "./asm.ts";
import { buildVerifier } from "./build.ts";
import { CODES } from "./codes.ts";
import { verifierWasmUrl, verify } from "./module.ts";
import { reportMessage } from "./report.ts";
import type { MapFacts } from "./request.ts";

await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
const module = new WebAssembly.Module(Deno.readFileSync(verifierWasmUrl));

const TC = 3;
const VALUES: MapFacts = { handle: 1, type: 2, keySize: 4, valueSize: 64, maxEntries: 1, flags: 0 };
const SEEN: MapFacts = { handle: 2, type: 1, keySize: 8, valueSize: 16, maxEntries: 64, flags: 0 };
const done: Line[] = ["out", mov(0, 0), exit()];
/** r2 = packet, r3 = its end, 16 bytes of it proved. */
const packet: Line[] = [
  load(4, 2, 1, 76),
  load(4, 3, 1, 80),
  movReg(4, 2),
  alu("add", 4, 16),
  jumpReg("gt", 4, 3, "out"),
];
const low32 = { op: 0xbc, dst: 0, src: 1 };

/** Every program, and what strict mode says to it. */
function check(cases: [name: string, strict: string, lines: Line[]][]): void {
  for (const [name, expected, lines] of cases) {
    for (const strict of [false, true]) {
      const report = verify(module, {
        name: "test",
        programType: TC,
        gplCompatible: true,
        instructions: assemble(lines),
        maps: [VALUES, SEEN],
        strict,
      });
      const got = report.verdict === "accepted" ? "accepted" : CODES.get(report.code)!.name;
      assert.equal(
        got,
        strict ? expected : "accepted",
        `${name}, strict ${strict}: ${reportMessage(report)}`,
      );
    }
  }
}

Deno.test("strict: stack that was never written is not read, by the program or by a helper", () =>
  check([
    ["loaded", "stack-uninitialised", [load(8, 0, 10, -8), mov(0, 0), exit()]],
    ["loaded in part", "stack-uninitialised", [
      storeImm(4, 10, -4, 0),
      load(8, 1, 10, -8),
      mov(0, 0),
      exit(),
    ]],
    ["as a key", "stack-uninitialised", [
      storeImm(4, 10, -8, 1),
      movReg(2, 10),
      alu("add", 2, -8),
      loadMap(1, 2),
      call(1),
      mov(0, 0),
      exit(),
    ]],
    ["written on one path only", "stack-uninitialised", [
      load(4, 2, 1, 0),
      jump("eq", 2, 0, "skip"),
      storeImm(8, 10, -8, 1),
      "skip",
      load(8, 1, 10, -8),
      mov(0, 0),
      exit(),
    ]],
    ["written", "accepted", [storeImm(8, 10, -8, 0), load(8, 1, 10, -8), mov(0, 0), exit()]],
  ]));

Deno.test("strict: no kernel address leaves the program", () =>
  check([
    ["stored in a map", "pointer-leak", [loadMapValue(2, 1), store(8, 2, 0, 1), mov(0, 0), exit()]],
    ["stored in the packet", "pointer-leak", [...packet, store(8, 2, 0, 1), ...done]],
    ["exchanged into a map", "pointer-leak", [
      loadMapValue(2, 1),
      movReg(3, 1),
      atomic(8, 0xe1, 2, 0, 3),
      mov(0, 0),
      exit(),
    ]],
    ["returned", "pointer-leak", [movReg(0, 1), exit()]],
    ["returned in part", "pointer-leak", [low32, exit()]],
    ["handed to a helper as a number", "pointer-leak", [
      movReg(2, 1),
      movReg(1, 10),
      mov(1, 1),
      call(23),
      mov(0, 0),
      exit(),
    ]],
    ["compared with a number", "pointer-leak", [jump("gt", 1, 4096, "out"), ...done]],
    ["its low half compared", "pointer-leak", [jump32("eq", 1, 0, "out"), ...done]],
    ["compared with another pointer", "pointer-comparison", [jumpReg("gt", 1, 10, "out"), ...done]],
    ["subtracted from another pointer", "pointer-arithmetic", [movReg(2, 10), aluReg("sub", 2, 1), ...done]],
    ["negated", "pointer-arithmetic", [movReg(2, 1), { op: 0x87, dst: 2 }, ...done]],
    ["stays on the stack", "accepted", [store(8, 10, -8, 1), load(8, 1, 10, -8), load(4, 0, 1, 0), ...done]],
    ["compared with NULL", "accepted", [
      storeImm(4, 10, -4, 0),
      movReg(2, 10),
      alu("add", 2, -4),
      loadMap(1, 1),
      call(1),
      jump("eq", 0, 0, "out"),
      load(4, 1, 0, 0),
      ...done,
    ]],
    ["a distance within the packet", "accepted", [
      mov(0, 0),
      ...packet,
      aluReg("sub", 3, 2),
      movReg(0, 3),
      "out",
      exit(),
    ]],
  ]));

Deno.test("strict: accesses to packet and map value are aligned", () =>
  check([
    ["packet, 4 bytes at 0", "misaligned-access", [...packet, load(4, 0, 2, 0), ...done]],
    ["packet, 4 bytes at 2", "accepted", [...packet, load(4, 0, 2, 2), ...done]],
    ["packet, written", "misaligned-access", [...packet, storeImm(4, 2, 4, 0), ...done]],
    ["map value, 8 bytes at 4", "misaligned-access", [loadMapValue(2, 1), load(8, 0, 2, 4), ...done]],
    ["map value, written", "misaligned-access", [loadMapValue(2, 1), storeImm(2, 2, 1, 0), ...done]],
    ["map value, 8 bytes at 8", "accepted", [loadMapValue(2, 1), load(8, 0, 2, 8), ...done]],
    ["map value at a number that may be odd", "misaligned-access", [
      load(4, 3, 1, 0),
      alu("and", 3, 7),
      loadMapValue(2, 1),
      aluReg("add", 2, 3),
      load(2, 0, 2, 0),
      ...done,
    ]],
  ]));
