/** The contract of a global function, read from its BTF prototype as the kernel does (btf_prepare_func_args). @module */
import type { ArgumentKind, ReturnKind } from "@weir/verifier";
import type { Btf } from "./btf.ts";
import type { AttachTypeName } from "./kinds.ts";

/** Structs that are a program's context, in C. */
const CONTEXTS = new Set([
  "__sk_buff",
  "xdp_md",
  "bpf_sock",
  "bpf_sock_addr",
  "bpf_sock_ops",
  "sk_msg_md",
  "bpf_raw_tracepoint_args",
  "pt_regs",
  "user_pt_regs",
  "bpf_user_pt_regs_t",
  "bpf_perf_event_data",
  "bpf_sysctl",
  "bpf_sockopt",
  "bpf_cgroup_dev_ctx",
  "sk_reuseport_md",
  "bpf_sk_lookup",
  "bpf_nf_ctx",
]);

/** What callers must hand over and what comes back. */
export interface FunctionContract {
  readonly arguments: { kind: ArgumentKind; size?: number }[];
  readonly returns: ReturnKind;
}

/**
 * The contract of a FUNC; undefined when the id is none.
 * @param tracing Attach type of programs of type tracing: their context has no struct of its own.
 */
export function contractOf(btf: Btf, funcId: number, tracing?: AttachTypeName): FunctionContract | undefined {
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
      tracing,
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
  tracing: AttachTypeName | undefined,
): { kind: ArgumentKind; size?: number } {
  const type = btf.resolve(id);
  if (type.kind === "int" || type.kind === "enum" || type.kind === "enum64") return { kind: "scalar" };
  if (type.kind !== "ptr") return { kind: "other" };
  if (tags.includes("arg:ctx")) {
    return { kind: tracing === undefined || isTracingContext(btf, type.type, tracing) ? "context" : "other" };
  }
  const known = ["arg:nonnull"];
  if (tags.some((tag) => tag.startsWith("arg:") && !known.includes(tag))) return { kind: "other" };
  const target = btf.resolve(type.type);
  // bpf_user_pt_regs_t is a typedef; its name is what the kernel compares.
  if (CONTEXTS.has(target.name) || CONTEXTS.has(btf.name(type.type))) {
    return { kind: tracing === undefined ? "context" : "other" };
  }
  if (target.kind === "void" || target.kind === "func_proto" || target.kind === "fwd") {
    return { kind: "other" };
  }
  return { kind: tags.includes("arg:nonnull") ? "mem" : "memOrNull", size: btf.sizeOf(type.type) };
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
