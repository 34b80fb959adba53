/** Answers the verifier's questions about kernel types. @module */
import {
  type KernelTypeFacts,
  POINTER_FLAGS,
  QUESTIONS,
  STRUCT_CLASSES,
  type StructFacts,
  type TypeAnswer,
  type TypeQuestion,
  type VerifyReport,
  type VerifyRequest,
} from "@weir/verifier";
import type { Btf } from "./btf.ts";
import { isStructAt, WalkBudget, walkStruct } from "./struct_walk.ts";

/** More would be a program without end; the largest of Debian's tools asks for fewer than 100. */
const ANSWERS_MAX = 4096;
const ROUNDS_MAX = 64;
/** Structs whose fields are looked up before anybody asks, so that most programs need one round. */
const STRUCTS_AHEAD = 24;
/** How many neighbours of a field are answered with it. */
const ELEMENTS_AHEAD = 64;
/** Code of a report that asks. */
const TYPE_QUESTION = 170;

/** The kernel's types, as one program asks for them. */
export class TypeOracle {
  readonly #answers = new Map<string, TypeAnswer>();
  readonly #structs = new Map<number, StructFacts>();
  readonly #budget = new WalkBudget();
  /** Offset and width of every load in the program. */
  readonly #loads: readonly (readonly [offset: number, size: number])[];

  constructor(readonly kernel: Btf, instructions: Uint8Array) {
    this.#loads = loadsOf(instructions);
  }

  /** Names a struct and answers for all fields of it, and of those it points to, that the program's loads could mean. */
  expect(type: number): void {
    const pending = [type];
    const seen = new Set(pending);
    for (let done = 0; done < STRUCTS_AHEAD && pending.length > 0; done++) {
      const id = pending.shift()!;
      this.#name(id);
      for (const [offset, size] of this.#loads) {
        const answer = this.answer({ type: id, offset, what: size });
        if (answer?.kind === "pointer" && !seen.has(answer.target!)) {
          seen.add(answer.target!);
          pending.push(answer.target!);
        }
      }
    }
  }

  /** Answers a question; undefined when there is no more room or the question makes no sense. */
  answer(question: TypeQuestion): TypeAnswer | undefined {
    const { type, offset, what } = question;
    const key = `${type} ${offset} ${what}`;
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    if (this.#answers.size >= ANSWERS_MAX || !this.#makesSense(question)) return undefined;
    const found = { ...question, ...this.#find(question) };
    this.#answers.set(key, found);
    if (type !== 0) this.#name(type);
    if (found.target !== undefined) this.#name(found.target);
    return found;
  }

  /** Whether a question was answered before. */
  knows({ type, offset, what }: TypeQuestion): boolean {
    return this.#answers.has(`${type} ${offset} ${what}`);
  }

  /** Whether anything was answered yet. */
  get hasAnswers(): boolean {
    return this.#answers.size > 0;
  }

  /** All that was answered so far. */
  facts(): KernelTypeFacts {
    return { answers: [...this.#answers.values()], structs: [...this.#structs.values()] };
  }

  /** Questions come out of the sandbox: they may be anything. */
  #makesSense({ type, offset, what }: TypeQuestion): boolean {
    if (!Number.isInteger(type) || !Number.isInteger(offset) || offset < 0 || offset > 0x7fffffff) {
      return false;
    }
    const isClass = (base: number): boolean => what > base && what - base < STRUCT_CLASSES.length;
    if (isClass(QUESTIONS.structId)) return type === 0 && offset === 0;
    const memory = what > QUESTIONS.memory && what < 2 * QUESTIONS.memory;
    if (![1, 2, 4, 8].includes(what) && !memory && !isClass(QUESTIONS.isStruct)) return false;
    const kind = type > 0 && type < this.kernel.size ? this.kernel.kind(type) : "void";
    return kind === "struct" || kind === "union";
  }

  #find({ type, offset, what }: TypeQuestion): Omit<TypeAnswer, keyof TypeQuestion> {
    if (what >= QUESTIONS.memory) {
      const found = walkStruct(this.kernel, type, offset, what - QUESTIONS.memory, this.#budget);
      return found.kind === "refused" ? { kind: "refused", flags: found.why } : { kind: "scalar" };
    }
    if (what >= QUESTIONS.structId) {
      const target = this.#classId(what - QUESTIONS.structId);
      return target === undefined ? { kind: "refused" } : { kind: "pointer", target };
    }
    if (what >= QUESTIONS.isStruct) {
      const wanted = this.#classId(what - QUESTIONS.isStruct);
      const is = wanted !== undefined && isStructAt(this.kernel, type, offset, wanted, this.#budget);
      return { kind: is ? "scalar" : "refused" };
    }
    const found = walkStruct(this.kernel, type, offset, what, this.#budget);
    switch (found.kind) {
      case "refused":
        return { kind: "refused", flags: found.why };
      case "pointer":
        return { kind: "pointer", target: found.target, flags: this.#flags(type, found) };
      default:
        return { kind: found.kind };
    }
  }

  #flags(type: number, found: { target: number; field: string; tag: string; throughUnion: boolean }): number {
    const tags: Record<string, number> = {
      user: POINTER_FLAGS.user,
      percpu: POINTER_FLAGS.percpu,
      rcu: POINTER_FLAGS.rcu,
    };
    let flags = (tags[found.tag] ?? 0) | (found.throughUnion ? POINTER_FLAGS.untrusted : 0);
    const lists: [suffix: string, flag: number][] = [
      ["__safe_trusted", POINTER_FLAGS.safeTrusted],
      ["__safe_trusted_or_null", POINTER_FLAGS.safeTrustedOrNull],
      ["__safe_rcu", POINTER_FLAGS.safeRcu],
      ["__safe_rcu_or_null", POINTER_FLAGS.safeRcuOrNull],
    ];
    for (const [suffix, flag] of lists) {
      const list = this.kernel.find(`${this.kernel.name(type)}${suffix}`, "struct");
      const isListed = list?.members.some((member) => {
        const pointer = this.kernel.type(member.type);
        return member.name === found.field && pointer.kind === "ptr" &&
          this.kernel.resolve(pointer.type).id === found.target;
      });
      if (isListed) flags |= flag;
    }
    return flags;
  }

  #classId(number: number): number | undefined {
    const name = STRUCT_CLASSES[number];
    return name === undefined || name === "" ? undefined : this.kernel.find(name, "struct")?.id;
  }

  #name(type: number): void {
    if (this.#structs.has(type)) return;
    const found = this.kernel.type(type);
    if (found.kind !== "struct" && found.kind !== "union") return;
    this.#structs.set(type, { type, size: found.size, name: `${found.kind} ${found.name || "(anonymous)"}` });
  }
}

/** A request that may be asked about kernel types, with what answers them. */
export interface AskedRequest {
  readonly request: VerifyRequest;
  /** Undefined where no kernel types are at hand. */
  readonly oracle?: TypeOracle;
}

/** Verifies a program, answering what the verifier asks about kernel types until it has a verdict. */
export function settle<T extends VerifyReport>(
  asked: AskedRequest,
  verifier: (request: VerifyRequest) => T,
): T {
  return settleBy(asked, verifier, (report) => report);
}

/** The same where the report is only a part of the answer, or missing. */
export function settleBy<T>(
  asked: AskedRequest,
  verifier: (request: VerifyRequest) => T,
  reportOf: (answer: T) => VerifyReport | null,
): T {
  const { oracle } = asked;
  let { request } = asked;
  // what was answered before, for a request that differs in an option only, need not be asked again
  if (oracle?.hasAnswers) {
    request = { ...request, kernelTypes: { ...request.kernelTypes, ...oracle.facts() } };
  }
  for (let round = 0;; round++) {
    const result = verifier(request), report = reportOf(result);
    if (report?.code !== TYPE_QUESTION || oracle === undefined || round >= ROUNDS_MAX) return result;
    const [type, offset, what] = report.operands.map(Number);
    const question = { type, offset, what };
    // Asked again, or not to be answered: the verdict stays "unsupported".
    if (oracle.knows(question)) return result;
    const answer = oracle.answer(question);
    if (answer === undefined) return result;
    if (answer.kind === "pointer") oracle.expect(answer.target!);
    // A loop over an array asks for one element after the other.
    for (let next = 1; what <= 8 && next < ELEMENTS_AHEAD; next++) {
      oracle.answer({ type, offset: offset + next * what, what });
    }
    request = { ...request, kernelTypes: { ...request.kernelTypes, ...oracle.facts() } };
  }
}

function loadsOf(instructions: Uint8Array): [number, number][] {
  const view = new DataView(instructions.buffer, instructions.byteOffset, instructions.byteLength);
  const sizes: Record<number, number> = { 0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8 };
  const found = new Map<string, [number, number]>();
  for (let at = 0; at + 8 <= instructions.length; at += 8) {
    const opcode = instructions[at];
    if (opcode === 0x18) at += 8;
    else if ((opcode & 7) === 1) {
      const offset = view.getInt16(at + 2, true), size = sizes[opcode & 0x18];
      if (offset >= 0) found.set(`${offset} ${size}`, [offset, size]);
    }
  }
  return [...found.values()];
}
