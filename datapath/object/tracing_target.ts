/** What a program of type tracing is attached to, and what its context holds there, from the kernel's types. @module */
import {
  ATTACH_FLAGS,
  type AttachFacts,
  type ContextSlot,
  isKnownTracingTarget,
  POINTER_FLAGS,
  tracingSlotKind,
} from "@weir/verifier";
import type { Btf, BtfParameter, BtfTypeOf } from "./btf.ts";
import { ATTACH_TYPES, PROGRAM_FLAGS } from "./kinds.ts";
import type { ProgramKind } from "./section_name.ts";

/** MAX_BPF_FUNC_ARGS of the kernel. */
const ARGUMENTS_MAX = 12;

/** Functions that the kernel itself uses around programs (btf_id_deny), and those that never return (noreturn_deny). */
const DENIED = new Set(
  "migrate_disable migrate_enable rcu_read_unlock_strict preempt_count_add preempt_count_sub __rcu_read_lock __rcu_read_unlock"
    .split(" "),
);
const NEVER_RETURN = new Set(
  ("__ia32_sys_exit __ia32_sys_exit_group __kunit_abort __x64_sys_exit __x64_sys_exit_group do_exit do_group_exit " +
    "kthread_complete_and_exit kthread_exit kunit_try_catch_throw make_task_dead").split(" "),
);

/** Functions in which bpf_d_path() may be called (btf_allowlist_d_path). */
const PATH_ALLOWED = new Set(
  "security_file_permission security_inode_getattr security_file_open security_path_truncate vfs_truncate vfs_fallocate dentry_open vfs_getattr filp_close"
    .split(" "),
);

/**
 * Places of programs of type tracing; undefined for programs of other types.
 * @param otherwise What to attach to instead where the section's target cannot be.
 */
export function attachFactsOf(
  kind: ProgramKind,
  kernel: Btf | undefined,
  otherwise?: string,
): AttachFacts | undefined {
  const facts = factsOf(kind, kernel);
  if (facts?.refused === undefined || otherwise === undefined) return facts;
  return factsOf({ ...kind, target: otherwise }, kernel);
}

function factsOf(kind: ProgramKind, kernel: Btf | undefined): AttachFacts | undefined {
  const attach = ATTACH_TYPES[kind.attachType];
  if (kind.type !== 26) return undefined;
  const target = kind.target ?? "";
  const refuse = (refused: string): AttachFacts => ({ target, refused, slots: [] });
  if (target === "") return refuse("the section does not name what to attach to");
  if (kernel === undefined) return refuse("the types of the kernel were not given (--btf)");
  switch (attach) {
    case "trace_raw_tp":
      return tracepoint(target, kernel);
    case "trace_iter":
      return iterator(target, kernel);
    case "trace_fentry":
    case "trace_fexit":
    case "modify_return":
      return trampoline(target, attach, (kind.flags & PROGRAM_FLAGS.sleepable) !== 0, kernel);
    default:
      return refuse(`attach type ${attach ?? kind.attachType} is not covered`);
  }
}

function tracepoint(target: string, kernel: Btf): AttachFacts {
  const refuse = (refused: string): AttachFacts => ({ target, refused, slots: [] });
  const type = kernel.find(`btf_trace_${target}`, "typedef");
  const pointer = type === undefined ? undefined : kernel.resolve(type.type);
  const proto = pointer?.kind === "ptr" ? kernel.type(pointer.type) : undefined;
  if (proto?.kind !== "func_proto") return refuse("the kernel has no such tracepoint");
  const named = prototypeOf(kernel, `__bpf_trace_${target}`);
  // The first parameter is the tracepoint's own `__data`.
  const slots = proto.parameters.slice(1).map((parameter, index): ContextSlot => {
    const slot = slotOf(kernel, parameter, POINTER_FLAGS.trusted);
    if (slot.length !== 1) return { kind: "other" };
    if (slot[0].kind !== "pointer") return slot[0];
    const special = tracingSlotKind(`tp_btf/${target}`, index);
    if (special === "scalar") return { kind: "opaque" };
    const nullable = special === "trusted_ptr_or_null" || parameter.name.endsWith("__nullable") ||
      named?.parameters[index + 1]?.name.endsWith("__nullable");
    return nullable ? { ...slot[0], flags: slot[0].flags! | POINTER_FLAGS.nullable } : slot[0];
  });
  return checked({ target, slots }, proto.parameters.length - 1);
}

function iterator(target: string, kernel: Btf): AttachFacts {
  const refuse = (refused: string): AttachFacts => ({ target, refused, slots: [] });
  const proto = prototypeOf(kernel, `bpf_iter_${target}`);
  if (proto === undefined) return refuse("the kernel has no such iterator");
  if (!isKnownTracingTarget(`iter/${target}`)) return refuse("this verifier does not know that iterator");
  const slots = proto.parameters.flatMap((parameter, index): ContextSlot[] => {
    const special = tracingSlotKind(`iter/${target}`, index);
    const found = slotOf(kernel, parameter, 0);
    if (special === undefined) return found[0]?.kind === "pointer" ? [{ kind: "other" }] : found;
    if (/^(rdonly_)?buf_or_null$/.test(special)) {
      return [{ kind: "buffer", flags: 1 | (special.startsWith("rdonly") ? 2 : 0) }];
    }
    if (/buf/.test(special) || found[0]?.kind !== "pointer") return [{ kind: "other" }];
    const flags = (special.startsWith("trusted") ? POINTER_FLAGS.trusted : 0) |
      (special.endsWith("or_null") ? POINTER_FLAGS.nullable : 0);
    return [{ ...found[0], flags }];
  });
  return checked({ target, slots, flags: ATTACH_FLAGS.allowsPath }, proto.parameters.length);
}

function trampoline(target: string, attach: string, sleepable: boolean, kernel: Btf): AttachFacts {
  const refuse = (refused: string): AttachFacts => ({ target, refused, slots: [] });
  const proto = prototypeOf(kernel, target);
  if (proto === undefined) return refuse("the kernel has no such function");
  if (DENIED.has(target)) return refuse("the kernel does not let programs be attached to this function");
  if (NEVER_RETURN.has(target) && attach !== "trace_fentry") return refuse("this function never returns");
  const isSystemCall = /^__(x64|ia32|arm64|arm64_compat|s390x)_(sys|compat_sys)_/.test(target);
  if (attach === "modify_return" && !isSystemCall && !target.startsWith("security_")) {
    return refuse("whether the kernel lets this function's result be changed is not in its types");
  }
  if (sleepable && !isSystemCall) {
    return refuse(
      "whether programs that sleep may be attached to this function is not in the kernel's types",
    );
  }
  if (!proto.parameters.every((parameter) => isAttachable(kernel, parameter.type))) {
    return refuse("this function takes an argument that no program can be given");
  }
  const slots = proto.parameters.flatMap((parameter) => slotOf(kernel, parameter, 0));
  const result = kernel.resolve(proto.type);
  switch (result.kind) {
    case "void":
      break;
    case "int":
    case "enum":
    case "enum64":
    case "ptr":
      if (attach === "trace_fexit") slots.push(...slotOf(kernel, { name: "", type: proto.type }, 0));
      if (attach === "modify_return") {
        if (result.kind !== "int") return refuse("this function does not return a number");
        slots.push({ kind: "scalar" });
      }
      break;
    default:
      return refuse("this function returns a struct");
  }
  const flags = (PATH_ALLOWED.has(target) ? ATTACH_FLAGS.allowsPath : 0) |
    (attach === "modify_return" || target.startsWith("bpf_sk_storage")
      ? ATTACH_FLAGS.refusesSocketStorage
      : 0);
  return checked({ target, slots, flags }, proto.parameters.length);
}

function checked(facts: AttachFacts, count: number): AttachFacts {
  if (count > ARGUMENTS_MAX) {
    return { ...facts, slots: [], refused: `it has more than ${ARGUMENTS_MAX} arguments` };
  }
  // Slots beyond are there, but programs cannot read them.
  return { ...facts, slots: facts.slots.slice(0, ARGUMENTS_MAX) };
}

/** Numbers, pointers and structs of two registers; a last parameter without a type stands for `...`. */
function isAttachable(kernel: Btf, id: number): boolean {
  const type = kernel.resolve(id);
  switch (type.kind) {
    case "int":
    case "struct":
      return type.size <= 16;
    case "enum":
    case "enum64":
    case "ptr":
      return true;
    default:
      return false;
  }
}

function prototypeOf(kernel: Btf, name: string): BtfTypeOf<"func_proto"> | undefined {
  // Static functions of one name may differ: which one is meant nobody knows.
  const all = kernel.findAll(name).filter((type) => type.kind === "func");
  const proto = all.length === 1 && all[0].kind === "func" ? kernel.type(all[0].type) : undefined;
  return proto?.kind === "func_proto" ? proto : undefined;
}

/** The slots of one argument; none where the kernel would not attach because of it. */
function slotOf(kernel: Btf, parameter: BtfParameter, flags: number): ContextSlot[] {
  const type = kernel.resolve(parameter.type);
  switch (type.kind) {
    case "int":
      // small ints only: __int128 takes two registers
      return type.size <= 8 ? [{ kind: "scalar" }] : [{ kind: "other" }, { kind: "other" }];
    case "enum":
    case "enum64":
      return [{ kind: "scalar" }];
    case "struct":
    case "union": {
      const each: ContextSlot = { kind: type.kind === "struct" && type.size <= 16 ? "scalar" : "other" };
      return new Array(Math.max(1, Math.min(32, Math.ceil(type.size / 8)))).fill(each);
    }
    case "ptr": {
      const below = kernel.type(type.type), target = kernel.resolve(type.type);
      if (target.kind === "void" || target.kind === "int") return [{ kind: "scalar", flags: 1 }];
      if (target.kind !== "struct" && target.kind !== "union") return [{ kind: "none" }];
      const tag = below.kind === "type_tag" ? below.name : "";
      const memory = tag === "user" ? POINTER_FLAGS.user : tag === "percpu" ? POINTER_FLAGS.percpu : 0;
      const nullable = parameter.name.endsWith("__nullable") ? POINTER_FLAGS.nullable : 0;
      return [{ kind: "pointer", type: target.id, flags: flags | memory | nullable }];
    }
    default:
      return [{ kind: "none" }];
  }
}
