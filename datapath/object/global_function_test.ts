import { deepEqual } from "node:assert/strict";
import { clang, compile } from "./compile_fixture.ts";
import { contractOf } from "./global_function.ts";
import { BpfObject } from "./object.ts";

const XDP = 6, TC = 3, CGROUP_SOCK = 9;

/** What the first argument of each function is to a program of the type. */
function kinds(object: BpfObject, programType: number): Record<string, string> {
  const found: Record<string, string> = {};
  for (const func of object.btf!.ofKind("func")) {
    const { kind } = contractOf(object.btf!, func.id, { programType })!.arguments[0];
    if (func.name !== "program") found[func.name] = kind;
  }
  return found;
}

Deno.test({
  name: "contractOf() takes only the struct of the program's own type for its context",
  ignore: clang.missing,
  fn: () => {
    const object = BpfObject.parse(compile(new URL("testdata/contexts.c", import.meta.url)));
    deepEqual(kinds(object, TC), {
      of_skb: "context",
      of_xdp: "memOrNull",
      of_kernel_skb: "context",
      tagged_void: "context",
      tagged_xdp: "other",
    });
    deepEqual(kinds(object, XDP), {
      of_skb: "memOrNull",
      of_xdp: "context",
      of_kernel_skb: "memOrNull",
      tagged_void: "context",
      tagged_xdp: "context",
    });
    deepEqual(kinds(object, CGROUP_SOCK), {
      of_skb: "memOrNull",
      of_xdp: "memOrNull",
      of_kernel_skb: "memOrNull",
      tagged_void: "context",
      tagged_xdp: "other",
    });
  },
});
