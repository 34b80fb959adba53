/**
 * One case per seed: a generated program goes through our verifier and through the kernel, in several dresses.
 * The bounded tests and the endless fuzzer run the same cases.
 *
 * ```text
 *  seed ─▶ program ─┬─ ours accepts ─▶ run in the kernel ─▶ every record within what ours claimed   containment
 *                   ├─ ours accepts, kernel rejects for memory ─▶ defect                           differential
 *                   ├─ nops, other registers, other block order ─▶ the same verdict                 metamorphic
 *                   ├─ every path walked to its end ─▶ the same verdict                             pruning
 *                   └─ mutated ─▶ differential again
 * ```
 *
 * @module
 */

import { firstReason } from "../../scripts/probe/access_tables.ts";
import { Kernel } from "../../scripts/probe/kernel.ts";
import { adjudicate } from "./adjudicator.ts";
import { type Generated, generateProgram, RECORD_BYTES, type RunnableType, WORK_BYTES } from "./generator.ts";
import { mutate } from "./mutator.ts";
import {
  encodeNodes,
  insertBefore,
  type Node,
  node,
  renameRegisters,
  reorderBlocks,
  slotsOf,
} from "./program.ts";
import { Random } from "./random.ts";
import { type ReasonKind, reasonKind } from "./reasons.ts";
import type { Subject, SubjectProgram, Verdict } from "./subject.ts";

/** Something that must not be. The message begins with the seed that makes it again. */
export class Defect extends Error {
  constructor(
    readonly kind: "containment" | "differential" | "metamorphic" | "pruning" | "robustness",
    seed: number,
    what: string,
  ) {
    super(`${kind} defect, seed ${seed}: ${what}`);
  }
}

/** How many of what there were; all rise. */
export interface Counts {
  programs: number;
  accepted: number;
  /** Programs that both refuse, or both accept. */
  agreed: number;
  /** Ours refuses what the kernel accepts: precision, not a defect. */
  stricter: number;
  /** Ours accepts what the kernel refuses for a reason other than memory. */
  looser: number;
  /** Ours accepts what the kernel refuses for memory, and runs show that ours is right. */
  finer: number;
  /** The same, but the kernel will not run the question. */
  undecided: number;
  runs: number;
  records: number;
  variants: number;
}

/** Nothing yet. */
function noCounts(): Counts {
  return {
    programs: 0,
    accepted: 0,
    agreed: 0,
    stricter: 0,
    looser: 0,
    finer: 0,
    undecided: 0,
    runs: 0,
    records: 0,
    variants: 0,
  };
}

const KEY = new Uint8Array(4);
const STATE_FREQUENT = 8; // BPF_F_TEST_STATE_FREQ
const EXHAUSTIVE_VISITS = 50_000;

/** The kernel with the two maps of the generated programs, and our verifier beside it. */
export class CaseRunner {
  readonly #kernel = new Kernel();
  readonly #maps: { work: number; records: number };
  /** Why ours refuses what the kernel accepts: code and message without numbers, with a seed each. */
  readonly stricter = new Map<string, number[]>();
  /** What the kernel refuses for policy and ours accepts. */
  readonly looser = new Map<string, number[]>();
  /** Disagreements about memory that no run could decide. */
  readonly undecided = new Map<string, number[]>();
  readonly counts = noCounts();

  constructor(readonly subject: Subject) {
    const array = { type: 2, keyBytes: 4, entriesMax: 1 };
    this.#maps = {
      work: this.#kernel.createMap({ ...array, valueBytes: WORK_BYTES }),
      records: this.#kernel.createMap({ ...array, valueBytes: RECORD_BYTES }),
    };
  }

  /** Closes the maps. */
  close(): void {
    this.#kernel.close();
  }

  /** The program of a seed. */
  generate(seed: number): Generated {
    return generateProgram(new Random(seed), this.#maps, { steps: 8 + seed % 40 });
  }

  /** Runs an accepted program on several packets; every recorded value must lie within the claims. */
  containment(seed: number, runs = 4): void {
    const program = this.generate(seed);
    const ours = this.#ours(program.type, program.nodes, true);
    this.counts.programs++;
    if (ours.verdict === "broken") throw new Defect("robustness", seed, ours.message);
    if (ours.verdict !== "accepted") return;
    this.counts.accepted++;
    const loaded = this.#kernel.load({
      type: program.type.type,
      expectedAttachType: program.type.attach,
      instructions: encodeNodes(program.nodes),
      logLevel: 0,
    });
    if (!loaded.ok) return;
    try {
      const slots = slotsOf(program.nodes);
      const random = new Random(~seed);
      for (let run = 0; run < runs; run++) {
        this.#kernel.update(this.#maps.work, KEY, random.bytes(WORK_BYTES));
        this.#kernel.update(this.#maps.records, KEY, new Uint8Array(RECORD_BYTES));
        const { errno } = this.#kernel.run(loaded.fd, random.bytes(random.between(14, 200)));
        if (errno !== 0) continue;
        this.counts.runs++;
        const values = new DataView(this.#kernel.lookup(this.#maps.records, KEY, RECORD_BYTES)!.buffer);
        for (const { at, register, slot } of program.records) {
          if (values.getBigUint64(slot * 16 + 8, true) === 0n) continue;
          this.counts.records++;
          const value = values.getBigUint64(slot * 16, true);
          const wrong = ours.contradiction(slots[at], register, value);
          if (wrong !== null) {
            throw new Defect(
              "containment",
              seed,
              `instruction ${slots[at]}, R${register} = 0x${value.toString(16)}: ${wrong}`,
            );
          }
        }
      }
    } finally {
      this.#kernel.closeFd(loaded.fd);
    }
  }

  /** Compares our verdict with the kernel's; ours may be stricter, never looser about memory. */
  differential(seed: number, mutations = 3): void {
    const program = this.generate(seed);
    const random = new Random(seed ^ 0x5bd1e995);
    let nodes = program.nodes;
    for (let round = 0; round <= mutations; round++) {
      if (round > 0) nodes = mutate(nodes, random);
      this.#compare(seed, round, program.type, nodes);
    }
  }

  /** The kernel's full log and our verdict with claims, of a seed's program or of one of its mutations. */
  explain(seed: number, round: number): { type: string; ours: Verdict; log: string } {
    const { type, nodes: first } = this.generate(seed);
    const random = new Random(seed ^ 0x5bd1e995);
    let nodes = first;
    for (let at = 0; at < round; at++) nodes = mutate(nodes, random);
    const loaded = this.#kernel.load({
      type: type.type,
      expectedAttachType: type.attach,
      instructions: encodeNodes(nodes),
      logLevel: 2,
      logBytes: 16 << 20,
    });
    return { type: type.name, ours: this.#ours(type, nodes, true), log: loaded.log };
  }

  /** Variants that mean the same must be judged the same. */
  metamorphic(seed: number): void {
    const program = this.generate(seed);
    const random = new Random(seed ^ 0x27d4eb2f);
    const plain = this.#ours(program.type, program.nodes).verdict;
    const variants: [string, Node[]][] = [
      ["nops", withNops(program.nodes, random)],
      [
        "other registers",
        renameRegisters(program.nodes, [0, 1, 2, 3, 4, 5, ...random.shuffle([6, 7, 8, 9]), 10]),
      ],
    ];
    if (program.functions === 0) {
      variants.push(["other block order", reorderBlocks(program.nodes, (blocks) => random.shuffle(blocks))]);
    }
    for (const [name, nodes] of variants) {
      this.counts.variants++;
      const verdict = this.#ours(program.type, nodes).verdict;
      if (verdict !== plain) throw new Defect("metamorphic", seed, `${plain}, but ${verdict} with ${name}`);
    }
  }

  /** Paths that end at a state walked before must not hide anything: with and without them the verdict is one. */
  pruning(seed: number, mutations = 6): void {
    const program = this.generate(seed);
    const random = new Random(seed ^ 0x165667b1);
    let nodes = program.nodes;
    for (let round = 0; round <= mutations; round++) {
      if (round > 0) nodes = mutate(nodes, random);
      // Kept at every jump, not only now and then: more chances to hide something.
      const pruned = this.subject.verify(
        { ...this.#program(program.type, nodes), flags: STATE_FREQUENT },
        false,
      );
      const exhaustive = this.subject.verifyExhaustively(
        this.#program(program.type, nodes),
        EXHAUSTIVE_VISITS,
      );
      this.counts.variants++;
      if (pruned.verdict === "limit" || exhaustive.verdict === "limit") continue;
      // An endless loop is a limit to the one and a finding to the other.
      if ((pruned.verdict === "accepted") !== (exhaustive.verdict === "accepted")) {
        throw new Defect(
          "pruning",
          seed,
          `round ${round}: ${pruned.verdict} ${pruned.message}, but ${exhaustive.verdict} ${exhaustive.message} without`,
        );
      }
    }
  }

  /** The bytes of the request of a seed's program. */
  request(seed: number): Uint8Array<ArrayBuffer> {
    const program = this.generate(seed);
    return this.subject.encode(this.#program(program.type, program.nodes), false);
  }

  #ours(type: RunnableType, nodes: readonly Node[], claims = false): Verdict {
    return this.subject.verify(this.#program(type, nodes), claims);
  }

  #program(type: RunnableType, nodes: readonly Node[]): SubjectProgram {
    const array = { type: 2, keyBytes: 4, entriesMax: 1, flags: 0 };
    return {
      type: type.type,
      attach: type.attach,
      flags: 0,
      instructions: encodeNodes(nodes),
      maps: [
        { ...array, fd: this.#maps.work, valueBytes: WORK_BYTES },
        { ...array, fd: this.#maps.records, valueBytes: RECORD_BYTES },
      ],
    };
  }

  #compare(seed: number, round: number, type: RunnableType, nodes: readonly Node[]): void {
    const instructions = encodeNodes(nodes);
    const ours = this.#ours(type, nodes);
    const kernel = this.#kernel.load({ type: type.type, expectedAttachType: type.attach, instructions });
    this.counts.programs++;
    if (ours.verdict === "broken") throw new Defect("robustness", seed, `round ${round}: ${ours.message}`);
    if (ours.verdict === "accepted") this.counts.accepted++;
    if (kernel.ok) this.#kernel.closeFd(kernel.fd);
    if (kernel.ok === (ours.verdict === "accepted")) {
      this.counts.agreed++;
      return;
    }
    if (kernel.ok) {
      this.counts.stricter++;
      note(this.stricter, `${ours.verdict} ${ours.code} ${withoutNumbers(ours.message)}`, seed);
      return;
    }
    const reason = lastReason(kernel.log);
    const kind: ReasonKind = reasonKind(reason);
    if (kind === "memory") {
      const claimed = this.#ours(type, nodes, true);
      const { outcome, why } = adjudicate(this.#kernel, this.#maps, {
        type,
        nodes,
        ours: claimed,
        log: kernel.log,
      }, seed);
      if (outcome === "defect") {
        throw new Defect(
          "differential",
          seed,
          `round ${round}: ours accepts, the kernel says: ${reason}; ${why}`,
        );
      }
      this.counts[outcome]++;
      if (outcome === "undecided") {
        note(this.undecided, `${withoutNumbers(reason)}; ${withoutNumbers(why)}`, seed);
      }
      return;
    }
    this.counts.looser++;
    note(this.looser, `${kind}: ${withoutNumbers(reason)}`, seed);
  }
}

function note(into: Map<string, number[]>, key: string, seed: number): void {
  const seeds = into.get(key);
  if (seeds === undefined) into.set(key, [seed]);
  else seeds.push(seed);
}

function withoutNumbers(text: string): string {
  return text.replace(/0x[0-9a-f]+|-?\d+/g, "N").slice(0, 120);
}

/** The last line that gives a reason: a path's own notes come before it. */
function lastReason(log: string): string {
  const lines = log.trimEnd().split("\n").reverse();
  return lines.find((line) =>
    firstReason(line) !== "" && !/^(\s|from |caller:|callee:|last_idx|regs=|parent )/.test(line)
  ) ?? log;
}

/** Jumps to the next instruction, here and there. */
function withNops(nodes: readonly Node[], random: Random): Node[] {
  let result = [...nodes];
  for (let count = random.between(1, 6); count > 0; count--) {
    const at = random.below(result.length);
    result = insertBefore(result, at, [node(0x05)]);
  }
  return result;
}
