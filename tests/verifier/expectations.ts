/**
 * What a selftest object says about its own programs: the annotations (`__success`, `__failure`, `__msg`, ...)
 * are declaration tags on the functions in the object's BTF.
 *
 * @module
 */

import type { Btf } from "@weir/object";

/** What is expected of one program when it is loaded with privileges. */
export interface Expectation {
  readonly program: string;
  readonly verdict: "accept" | "reject";
  /** What the kernel's log is to contain; `{{ }}` encloses a regular expression. */
  readonly messages: readonly string[];
  /** `BPF_F_*` program flags. */
  readonly flags: number;
  /** The object whose types CO-RE relocations are made against; empty for the running kernel's. */
  readonly btfPath: string;
}

/** An annotation; kernels from 6.15 on number them. */
const TAG = /^comment:(?:\d+:)?test_(.*)$/s;

/** Names that `__flag()` may carry. */
const FLAGS: Record<string, number> = {
  BPF_F_STRICT_ALIGNMENT: 1,
  BPF_F_ANY_ALIGNMENT: 2,
  BPF_F_TEST_RND_HI32: 4,
  BPF_F_TEST_STATE_FREQ: 8,
  BPF_F_SLEEPABLE: 16,
  BPF_F_XDP_HAS_FRAGS: 32,
  BPF_F_TEST_REG_INVARIANTS: 128,
};

const ARCHITECTURES: Record<string, string> = { x86_64: "X86_64", aarch64: "ARM64" };

/** The expectations of all programs of an object that state one for a privileged loader on this machine type. */
export function readExpectations(btf: Btf, arch: string = Deno.build.arch): Map<string, Expectation> {
  const found = new Map<string, Expectation>();
  for (const func of btf.ofKind("func")) {
    const tags = btf.tagsOf(func.id).flatMap((tag) => TAG.exec(tag.name)?.slice(1) ?? []);
    const verdict = tags.includes("expect_failure")
      ? "reject"
      : tags.includes("expect_success")
      ? "accept"
      : null;
    if (verdict === null || tags.includes("auxiliary")) continue;
    const architectures = valuesOf(tags, "arch=");
    if (architectures.length > 0 && !architectures.includes(ARCHITECTURES[arch])) continue;
    found.set(func.name, {
      program: func.name,
      verdict,
      messages: valuesOf(tags, "expect_msg=").map((text) => text.replace(/^\d+=/, "")),
      flags: valuesOf(tags, "prog_flags=").reduce((flags, name) => flags | flagOf(name), 0),
      btfPath: valuesOf(tags, "btf_path=")[0] ?? "",
    });
  }
  return found;
}

function valuesOf(tags: readonly string[], prefix: string): string[] {
  return tags.filter((tag) => tag.startsWith(prefix)).map((tag) => tag.slice(prefix.length));
}

/** `!NAME` clears a default flag, which none of ours is. */
function flagOf(name: string): number {
  if (name.startsWith("!")) return 0;
  const flag = FLAGS[name] ?? Number(name);
  if (!Number.isInteger(flag)) throw new Error(`Cannot read the program flag ${name}: not a known name`);
  return flag;
}
