/**
 * Kernel types in the protocol: what a program of type tracing is attached to, and questions about structs.
 *
 * The verifier does not know the kernel's structs. It stops at the first field whose type it was not told
 * (`type-question`); the host, which has the kernel's BTF, answers and asks again. So a request carries only the few
 * fields that its program can reach.
 * @module
 */
import type { WireWriter } from "./wire.ts";

/** What a slot of 8 bytes of a tracing program's context holds; numbers are append-only. */
export const SLOT_KINDS = {
  /** Nothing that may be read. */
  none: 0,
  scalar: 1,
  /** Pointer to the struct `type`. */
  pointer: 2,
  /** An address of which nothing is known, not even whether it is one. */
  opaque: 3,
  /** Something that the verifier has no model of. */
  other: 4,
  /** Memory whose size the kernel knows only when it attaches; flags: 1 may be NULL, 2 read only. */
  buffer: 5,
} as const;
export type SlotKind = keyof typeof SLOT_KINDS;

/** Bits of a pointer to a kernel struct; the numbers are those of the verifier's registers. */
export const POINTER_FLAGS = {
  nullable: 1,
  trusted: 8,
  rcu: 16,
  untrusted: 32,
  user: 64,
  percpu: 128,
  /** In answers: the kernel lists the field as trusted, trusted or NULL, RCU, RCU or NULL. */
  safeTrusted: 256,
  safeTrustedOrNull: 512,
  safeRcu: 1024,
  safeRcuOrNull: 2048,
} as const;

/** A slot of the context. */
export interface ContextSlot {
  kind: SlotKind;
  /** BTF id of the struct. */
  type?: number;
  /** `POINTER_FLAGS`. */
  flags?: number;
}

/** Bits of {@link AttachFacts.flags}; append-only. */
export const ATTACH_FLAGS = {
  /** The target is on the kernel's list of functions in which bpf_d_path() may be called. */
  allowsPath: 1,
  /** The target belongs to socket storage itself, so that its helpers may not be called. */
  refusesSocketStorage: 2,
} as const;

/** What a program of type tracing is attached to. */
export interface AttachFacts {
  /** Name for messages. */
  target: string;
  /** Why programs cannot be attached there, or why this verifier cannot tell; empty otherwise. */
  refused?: string;
  slots: ContextSlot[];
  flags?: number;
}

/** Structs that helpers take and give, by number; append-only. */
export const STRUCT_CLASSES = [
  "",
  "task_struct",
  "pt_regs",
  "tcp6_sock",
  "tcp_sock",
  "tcp_timewait_sock",
  "tcp_request_sock",
  "udp6_sock",
  "unix_sock",
  "mptcp_sock",
  "socket",
  "sock_common",
  "seq_file",
  "path",
  "file",
  "sk_buff",
  "xdp_buff",
  "cgroup",
  "cgroup_subsys_state",
  "vm_area_struct",
] as const;

/** Questions: a number of bytes from 1 to 8 asks for a field of that width, others are these plus a struct class. */
export const QUESTIONS = {
  /** Whether there is a struct of that class at that offset. */
  isStruct: 0x100,
  /** The id of the struct of that class (of type 0 at offset 0). */
  structId: 0x200,
  /** Plus a number of bytes: whether a helper may read so many there. */
  memory: 0x10000,
} as const;

/** A question about a kernel type. */
export interface TypeQuestion {
  /** BTF id of the struct. */
  type: number;
  /** Bytes from its start. */
  offset: number;
  /** Bytes to read, or one of {@link QUESTIONS}. */
  what: number;
}

/** Kinds of answers; numbers are append-only. */
export const ANSWER_KINDS = {
  /** The kernel refuses the access; the flags say why (1 beyond the struct, 2 no field, 3 beyond the field, 4 part of a pointer). */
  refused: 0,
  scalar: 1,
  /** A pointer to the struct `target`. */
  pointer: 2,
  /** A pointer to something that is no struct. */
  opaque: 3,
} as const;
export type AnswerKind = keyof typeof ANSWER_KINDS;

/** A question with its answer. */
export interface TypeAnswer extends TypeQuestion {
  kind: AnswerKind;
  /** BTF id of the struct pointed to. */
  target?: number;
  /** `POINTER_FLAGS`, or why it is refused. */
  flags?: number;
}

/** A struct for messages. */
export interface StructFacts {
  type: number;
  /** Bytes. */
  size: number;
  name: string;
}

/** What a request says about kernel types. */
export interface KernelTypeFacts {
  /** Only for programs of type tracing. */
  attach?: AttachFacts;
  answers?: TypeAnswer[];
  structs?: StructFacts[];
}

/** Writes the section of a request. */
export function encodeKernelTypes(w: WireWriter, facts: KernelTypeFacts | undefined): void {
  if (facts === undefined) {
    // no target, no answers, no structs
    for (let n = 0; n < 3; n++) w.u32(0);
    return;
  }
  const { attach } = facts;
  w.u32(attach === undefined ? 0 : 1);
  if (attach !== undefined) {
    w.text(attach.target);
    w.text(attach.refused ?? "");
    w.u32(attach.flags ?? 0);
    w.u32(attach.slots.length);
    for (const slot of attach.slots) {
      w.u32(SLOT_KINDS[slot.kind]);
      w.u32(slot.type ?? 0);
      w.u32(slot.flags ?? 0);
    }
  }
  const answers = [...facts.answers ?? []].sort((a, b) =>
    a.type - b.type || a.offset - b.offset || a.what - b.what
  );
  w.u32(answers.length);
  for (const answer of answers) {
    w.u32(answer.type);
    w.u32(answer.offset);
    w.u32(answer.what);
    w.u32(ANSWER_KINDS[answer.kind]);
    w.u32(answer.target ?? 0);
    w.u32(answer.flags ?? 0);
  }
  const structs = facts.structs ?? [];
  w.u32(structs.length);
  for (const struct of structs) {
    w.u32(struct.type);
    w.u32(struct.size);
    w.text(struct.name);
  }
}

/** What the running kernel makes of an argument slot where its C type does not say it; undefined: what the type says. */
export function tracingSlotKind(target: string, slot: number): string | undefined {
  return tracingTable().get(`${target} ${slot}`);
}

/** Whether the table of {@link tracingSlotKind} knows a target. */
export function isKnownTracingTarget(target: string): boolean {
  return tracingTable().has(`${target} 0`);
}

let table: ReadonlyMap<string, string> | undefined;

function tracingTable(): ReadonlyMap<string, string> {
  if (table !== undefined) return table;
  const text = Deno.readTextFileSync(new URL("./profile/tracing_arguments.tsv", import.meta.url));
  return table = new Map(
    text.trimEnd().split("\n").slice(1).map((line) => line.split("\t")).map((
      [target, slot, kind],
    ) => [`${target} ${slot}`, kind]),
  );
}
