/** The contract of a global function, read from its BTF prototype as the kernel does (btf_prepare_func_args). @module */
import type { ArgumentKind, ReturnKind } from "@weir/verifier";
import type { Btf } from "./btf.ts";
import type { AttachTypeName } from "./kinds.ts";

/** What `bpf_user_pt_regs_t` stands for. */
const REGISTERS = Deno.build.arch === "aarch64" ? "user_pt_regs" : "pt_regs";
const REGISTERS_TYPEDEF = "bpf_user_pt_regs_t";

/**
 * The struct, in C, that is the context of each program type (bpf_types.h of the kernel). A pointer to another type's
 * context is memory of that size to the kernel, and no context.
 */
const CONTEXTS: ReadonlyMap<number, string> = new Map([
  ...[1, 3, 4, 8, 10, 11, 12, 14, 19, 22].map((type): [number, string] => [type, "__sk_buff"]),
  [2, REGISTERS],
  [6, "xdp_md"],
  [7, "bpf_perf_event_data"],
  [9, "bpf_sock"],
  [13, "bpf_sock_ops"],
  [15, "bpf_cgroup_dev_ctx"],
  [16, "sk_msg_md"],
  [17, "bpf_raw_tracepoint_args"],
  [18, "bpf_sock_addr"],
  [21, "sk_reuseport_md"],
  [23, "bpf_sysctl"],
  [25, "bpf_sockopt"],
  [30, "bpf_sk_lookup"],
  [32, "bpf_nf_ctx"],
]);
/** Kernel structs that stand for the context of their types all the same (btf_is_projection_of). */
const PROJECTIONS: ReadonlyMap<string, string> = new Map([["sk_buff", "__sk_buff"], ["xdp_buff", "xdp_md"]]);
const KPROBE = 2, TRACEPOINT = 5, PERF_EVENT = 7, RAW_TRACEPOINT = 17, SYSCALL = 31;

/** The program whose function it is. */
export interface FunctionOwner {
  /** `enum bpf_prog_type`. */
  readonly programType: number;
  /** Attach type of programs of type tracing: their context has no struct of its own. */
  readonly tracing?: AttachTypeName;
}

/** What callers must hand over and what comes back. */
export interface FunctionContract {
  readonly arguments: { kind: ArgumentKind; size?: number }[];
  readonly returns: ReturnKind;
}

/** The contract of a FUNC; undefined when the id is none. */
export function contractOf(btf: Btf, funcId: number, owner: FunctionOwner): FunctionContract | undefined {
  const func = btf.type(funcId);
  if (func.kind !== "func") return undefined;
  const proto = btf.type(func.type);
  if (proto.kind !== "func_proto") return undefined;
  const tags = btf.tagsOf(funcId);
  const args = proto.parameters.slice(0, 5).map((parameter, index) =>
    argument(
      btf,
      parameter.type,
      tags.filter((tag) => tag.componentIndex === index).map((tag) => tag.name),
      owner,
    )
  );
  const result = btf.resolve(proto.type);
  const returns = result.kind === "void"
    ? "void"
    : result.kind === "int" || result.kind === "enum" || result.kind === "enum64"
    ? "scalar"
    : "other";
  return { arguments: args, returns };
}

function argument(
  btf: Btf,
  id: number,
  tags: readonly string[],
  owner: FunctionOwner,
): { kind: ArgumentKind; size?: number } {
  const type = btf.resolve(id);
  if (type.kind === "int" || type.kind === "enum" || type.kind === "enum64") return { kind: "scalar" };
  if (type.kind !== "ptr") return { kind: "other" };
  if (tags.includes("arg:ctx")) return { kind: mayBeContext(btf, type.type, owner) ? "context" : "other" };
  const known = ["arg:nonnull"];
  if (tags.some((tag) => tag.startsWith("arg:") && !known.includes(tag))) return { kind: "other" };
  const target = btf.resolve(type.type);
  if (isContext(btf, type.type, owner)) return { kind: "context" };
  if (target.kind === "void" || target.kind === "func_proto" || target.kind === "fwd") {
    return { kind: "other" };
  }
  return { kind: tags.includes("arg:nonnull") ? "mem" : "memOrNull", size: btf.sizeOf(type.type) };
}

/** Without a tag only the struct of the program's own type is its context (btf_is_prog_ctx_type). */
function isContext(btf: Btf, id: number, { programType }: FunctionOwner): boolean {
  if (programType === KPROBE && btf.name(id) === REGISTERS_TYPEDEF) return true;
  const { kind, name } = btf.resolve(id), context = CONTEXTS.get(programType);
  return kind === "struct" && context !== undefined &&
    (name === context || PROJECTIONS.get(name) === context);
}

/** What the tag `ctx` may stand at (btf_validate_prog_ctx_type). */
function mayBeContext(btf: Btf, id: number, { programType, tracing }: FunctionOwner): boolean {
  const type = btf.resolve(id), isStruct = type.kind === "struct";
  if (tracing !== undefined) return isTracingContext(btf, id, tracing);
  if (type.kind === "void" || programType === TRACEPOINT || programType === SYSCALL) return true;
  if (programType === KPROBE || programType === PERF_EVENT) {
    if (btf.name(id) === REGISTERS_TYPEDEF) return true;
    if (isStruct && (type.name === REGISTERS || programType === KPROBE && type.name === "pt_regs")) {
      return true;
    }
  }
  if (programType === RAW_TRACEPOINT && type.kind === "int" && type.size === 8) return true;
  return isStruct && type.name === CONTEXTS.get(programType);
}

/** What the kernel takes for the type of a tracing program's context (btf_validate_prog_ctx_type). */
function isTracingContext(btf: Btf, id: number, attach: AttachTypeName): boolean {
  const type = btf.resolve(id);
  if (type.kind === "void") return true;
  const isStruct = type.kind === "struct";
  if (attach === "trace_iter") return isStruct && type.name.startsWith("bpf_iter__");
  if (type.kind === "int" && type.size === 8) return true;
  return attach === "trace_raw_tp" && isStruct && type.name === "bpf_raw_tracepoint_args";
}
