import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  POINTER_FLAGS as F,
  QUESTIONS,
  STRUCT_CLASSES,
  type VerifyReport,
  type VerifyRequest,
} from "@weir/verifier";
import { Btf } from "./btf.ts";
import { clang, compile } from "./compile_fixture.ts";
import { ElfFile } from "./elf.ts";
import { ATTACH_TYPES, type AttachTypeName, attachTypeNumber } from "./kinds.ts";
import { isStructAt, REFUSED, walkStruct } from "./struct_walk.ts";
import { attachFactsOf } from "./tracing_target.ts";
import { settle, TypeOracle } from "./type_oracle.ts";

let types: Btf | undefined;
function btf(): Btf {
  return types ??= Btf.parse(
    ElfFile.sectionOf(compile(new URL("./testdata/structs.c", import.meta.url), ["-mcpu=v3", "-w"]), ".BTF")!,
  );
}
const id = (name: string): number => btf().find(name, "struct")!.id;
function at(path: string): number {
  return btf().member(id("root"), path)!.bitOffset / 8;
}

Deno.test({
  name: "walkStruct() finds fields as the kernel does: whole or in part, pointers whole, never across two",
  ignore: clang.missing,
  fn: () => {
    const kind = (offset: number, size: number): string => {
      const found = walkStruct(btf(), id("root"), offset, size);
      return found.kind === "refused"
        ? Object.entries(REFUSED).find(([, why]) => why === found.why)![0]
        : found.kind;
    };
    equal(kind(at("word"), 4), "scalar");
    equal(kind(at("word"), 2), "scalar");
    equal(kind(at("word"), 8), "beyondField");
    equal(kind(at("word") + 4, 4), "scalar", "bit fields");
    equal(kind(at("word") + 4, 1), "scalar", "the first bit field alone");
    equal(kind(at("inner"), 4), "scalar");
    equal(kind(at("inner") + 4, 4), "noField", "a hole");
    equal(kind(at("inner") + 8, 8), "pointer");
    equal(kind(at("inner") + 8, 4), "partOfPointer");
    equal(kind(at("many") + 16 + 8, 8), "pointer", "in the second element");
    equal(kind(at("text"), 8), "opaque");
    equal(kind(at("function"), 8), "opaque");
    equal(kind(at("missing"), 8), "opaque", "a struct without a definition");
    equal(kind(at("pointers") + 8, 8), "pointer");
    equal(kind(at("table") + 24, 8), "scalar");
    equal(kind(at("bytes"), 4), "scalar", "several elements of an array of numbers");
    equal(kind(at("bytes") + 4, 4), "beyondField");
    const size = btf().sizeOf(id("root"));
    equal(kind(size, 4), "scalar", "in the array without an end");
    equal(kind(size + 16 + 8, 8), "pointer");
    equal(walkStruct(btf(), id("leaf"), 16, 1).kind, "refused");
  },
});

Deno.test({
  name: "walkStruct() says what a pointer went through",
  ignore: clang.missing,
  fn: () => {
    const either = walkStruct(btf(), id("root"), at("either"), 8);
    const alone = walkStruct(btf(), id("root"), at("alone"), 8);
    equal(either.kind === "pointer" && either.throughUnion, true);
    equal(alone.kind === "pointer" && alone.throughUnion, false, "a union of one is a struct");
    equal(alone.kind === "pointer" ? alone.field : "", "one");
    ok(isStructAt(btf(), id("root"), 0, id("root")));
    ok(isStructAt(btf(), id("root"), at("inner"), id("leaf")));
    ok(!isStructAt(btf(), id("root"), at("inner") + 8, id("leaf")));
  },
});

Deno.test({
  name: "attachFactsOf() gives the slots of a target, and says why it cannot",
  ignore: clang.missing,
  fn: () => {
    const facts = (
      attach: AttachTypeName,
      target: string | undefined,
      flags = 0,
      kernel: Btf | undefined = btf(),
    ) =>
      attachFactsOf(
        { type: 26, attachType: attachTypeNumber(attach), flags, target, source: "section" },
        kernel,
      )!;
    const root = id("root");
    deepEqual(facts("trace_raw_tp", "event").slots, [
      { kind: "pointer", type: root, flags: F.trusted | F.nullable },
      { kind: "scalar" },
      { kind: "scalar", flags: 1 },
    ]);
    const traced = [
      { kind: "pointer", type: root, flags: 0 },
      { kind: "scalar" },
      { kind: "scalar" },
      { kind: "scalar", flags: 1 },
      { kind: "none" },
    ];
    deepEqual(facts("trace_fentry", "traced").slots, traced);
    deepEqual(facts("trace_fexit", "traced").slots, [...traced, { kind: "scalar" }]);
    const refused = (...args: Parameters<typeof facts>): string => facts(...args).refused ?? "";
    match(refused("trace_fentry", "nothing"), /no such function/);
    match(refused("trace_raw_tp", "traced"), /no such tracepoint/);
    match(refused("trace_iter", "unheard"), /does not know that iterator/);
    match(refused("trace_fentry", undefined), /does not name/);
    match(refused("trace_fentry", "found"), /an argument that no program can be given/);
    match(refused("modify_return", "traced"), /result be changed/);
    match(refused("trace_fentry", "traced", 16), /sleep/);
    equal(refused("trace_fentry", "__x64_sys_thing", 16), "");
    equal(refused("modify_return", "__x64_sys_thing"), "");
    match(
      attachFactsOf({
        type: 26,
        attachType: ATTACH_TYPES.indexOf("trace_fentry"),
        flags: 0,
        target: "x",
        source: "section",
      }, undefined)!
        .refused!,
      /not given/,
    );
    const dummy = {
      type: 26,
      attachType: attachTypeNumber("trace_fentry"),
      flags: 0,
      target: "x",
      source: "section",
    };
    equal(attachFactsOf(dummy as Parameters<typeof attachFactsOf>[0], btf(), "traced")!.target, "traced");
    equal(attachFactsOf({ type: 6, attachType: 37, flags: 0, source: "section" }, btf()), undefined);
  },
});

Deno.test({
  name: "TypeOracle answers what makes sense, and nothing else that comes out of the sandbox",
  ignore: clang.missing,
  fn: () => {
    const oracle = new TypeOracle(btf(), new Uint8Array());
    const root = id("root");
    const pointer = oracle.answer({ type: root, offset: at("alone"), what: 8 })!;
    equal(pointer.kind, "pointer");
    equal(pointer.flags! & F.safeTrusted, F.safeTrusted, "root__safe_trusted lists it");
    for (
      const [type, offset, what] of [
        [Number.NaN, 0, 8],
        [root, -1, 8],
        [root, 0, 3],
        [root, 0, 1 << 30],
        [root, 0.5, 4],
        [1 << 28, 0, 4],
        [0, 0, 4],
        [root, 0, QUESTIONS.structId + 1],
        [root, 0, QUESTIONS.isStruct],
        [0, 0, QUESTIONS.structId + STRUCT_CLASSES.length],
        [btf().find("btf_trace_event", "typedef")!.id, 0, 8],
      ]
    ) equal(oracle.answer({ type, offset, what }), undefined, `${type} ${offset} ${what}`);
    equal(oracle.facts().answers!.length, 1);
    // This kernel has no task_struct: the answer is that, not an error.
    equal(oracle.answer({ type: 0, offset: 0, what: QUESTIONS.structId + 1 })?.kind, "refused");
  },
});

Deno.test({
  name: "settle() asks again with every answer, and ends with a verifier that asks for ever",
  ignore: clang.missing,
  fn: () => {
    const root = id("root");
    const oracle = new TypeOracle(btf(), new Uint8Array());
    const seen: number[] = [];
    const question = (offset: number) =>
      ({ code: 170, operands: [BigInt(root), BigInt(offset), 4n] }) as VerifyReport;
    const request = { name: "t" } as VerifyRequest;
    const last = settle({ request, oracle }, (asked) => {
      seen.push(asked.kernelTypes?.answers?.length ?? 0);
      return seen.length < 4 ? question(seen.length) : { code: 0, operands: [] } as unknown as VerifyReport;
    });
    equal(last.code, 0);
    equal(seen[0], 0);
    ok(seen.every((count, index) => index === 0 || count > seen[index - 1]), seen.join());
    let rounds = 0;
    equal(settle({ request, oracle }, () => (rounds++, question(1))).code, 170);
    equal(rounds, 1, "the same question again is no progress");
    rounds = 0;
    equal(settle({ request, oracle }, () => question(100 + rounds++)).code, 170);
    ok(rounds <= 65, `${rounds} rounds`);
    equal(settle({ request }, () => question(1)).code, 170);
  },
});
