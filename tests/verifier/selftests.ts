/**
 * Runs our verifier over the annotated programs of the kernel's selftests and sorts what came out.
 *
 * @module
 */

import { BpfObject, Btf, type ObjectProgram, requestOf, settleBy } from "@weir/object";
import { ignoredBy } from "../../datapath/report/kernel_ignorance.ts";
import { readExpectations } from "./expectations.ts";
import { type ReasonKind, reasonKind } from "./reasons.ts";
import type { Subject } from "./subject.ts";

/** The release that the annotations speak for, as LINUX_VERSION_CODE: newer kernels accept more, and so do we. */
const ANNOTATED_FOR = 0x060c00;

/** One annotated program and what ours said of it. */
export interface SelftestResult {
  readonly object: string;
  readonly program: string;
  readonly programType: number;
  readonly expected: "accept" | "reject";
  /** What the kernel's log is to say. */
  readonly messages: readonly string[];
  /** What kind of reason those messages give; only for an expected rejection. */
  readonly reason: ReasonKind | null;
  /** `unreadable` when the object reader refused the program. */
  readonly verdict: "accepted" | "unsafe" | "not-proved" | "unsupported" | "limit" | "broken" | "unreadable";
  readonly code: string;
  readonly message: string;
  readonly timeUs: number;
  readonly visits: number;
}

/** socket_filter, sched_cls, sched_act, xdp, cgroup_skb, cgroup_sock, lwt_*, sock_ops, sk_*, sock_addr, flow_dissector, ... */
const NETWORK_TYPES = new Set([1, 3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 16, 18, 19, 21, 22, 25, 30, 32]);

/** Whether a program is of a type that has to do with packets and sockets. */
export function isNetwork(result: SelftestResult): boolean {
  return NETWORK_TYPES.has(result.programType);
}

/** Verifies every annotated program of the objects. */
export function runSelftests(subject: Subject, objects: readonly string[]): SelftestResult[] {
  const kernelBtf = Btf.parse(Deno.readFileSync("/sys/kernel/btf/vmlinux"));
  return objects.flatMap((path) => runObject(subject, path, kernelBtf));
}

function runObject(subject: Subject, path: string, kernelBtf: Btf): SelftestResult[] {
  const object = BpfObject.parse(Deno.readFileSync(path), { kernelBtf });
  const expectations = readExpectations(object.btf!);
  const results: SelftestResult[] = [];
  for (const program of object.programs) {
    const expectation = expectations.get(program.name);
    if (expectation === undefined || program.kind === undefined) continue;
    const { btfPath } = expectation;
    const read = btfPath === "" ? object : withTypesOf(path, btfPath);
    results.push({
      object: path.slice(path.lastIndexOf("/") + 1),
      program: program.name,
      programType: program.kind.type,
      expected: expectation.verdict,
      messages: expectation.messages,
      reason: expectation.verdict === "reject" ? reasonKind(expectation.messages.join("\n")) : null,
      ...judge(subject, read, read.programs.find(({ name }) => name === program.name)!, expectation.flags),
    });
  }
  return results;
}

/** The object relocated against another object's types, as `__btf_path` asks. */
function withTypesOf(path: string, btfPath: string): BpfObject {
  const types = path.replace(/[^/]+$/, btfPath.replace(/\.bpf\.o$/, ".o"));
  const kernelBtf = BpfObject.parse(Deno.readFileSync(types)).btf;
  return BpfObject.parse(Deno.readFileSync(path), { kernelBtf });
}

function judge(subject: Subject, object: BpfObject, program: ObjectProgram, flags: number) {
  const start = performance.now();
  let request;
  try {
    const plain = requestOf(object, program, { kernelIgnores: ignoredBy(ANNOTATED_FOR) });
    request = {
      ...plain,
      request: { ...plain.request, programFlags: (plain.request.programFlags ?? 0) | flags },
    };
  } catch (error) {
    return {
      verdict: "unreadable" as const,
      code: "",
      message: (error as Error).message,
      timeUs: 0,
      visits: 0,
    };
  }
  const { verdict, code, message, report } = settleBy(
    request,
    (request) => subject.verifyRequest(request),
    (verdict) => verdict.report,
  );
  return {
    verdict,
    code,
    message,
    timeUs: Math.round((performance.now() - start) * 1000),
    visits: report?.visits ?? 0,
  };
}

/** The sorted outcome. */
export interface SelftestSummary {
  /** To be rejected, but ours accepts; about memory in the wide sense. */
  readonly dangerous: readonly SelftestResult[];
  /** To be rejected, but ours accepts; for another kind of reason. */
  readonly lenient: readonly SelftestResult[];
  /** To be accepted, but ours rejects or runs out of a limit; of network types. */
  readonly tooStrict: readonly SelftestResult[];
  /** The same of other types. */
  readonly tooStrictElsewhere: readonly SelftestResult[];
  /** To be accepted, of network types, not answered as unsupported. */
  readonly decidable: number;
  /** Share of `decidable` that ours accepts. */
  readonly precision: number;
}

/** Sorts results. */
export function summarize(results: readonly SelftestResult[]): SelftestSummary {
  const wrong = results.filter((result) => result.expected === "reject" && result.verdict === "accepted");
  const refused = results.filter((result) =>
    result.expected === "accept" && !["accepted", "unsupported"].includes(result.verdict)
  );
  const tooStrict = refused.filter(isNetwork);
  const accepted = results.filter((result) =>
    result.expected === "accept" && result.verdict === "accepted" && isNetwork(result)
  );
  const decidable = accepted.length + tooStrict.length;
  return {
    dangerous: wrong.filter((result) => result.reason === "memory"),
    lenient: wrong.filter((result) => result.reason !== "memory"),
    tooStrict,
    tooStrictElsewhere: refused.filter((result) => !isNetwork(result)),
    decidable,
    precision: decidable === 0 ? 0 : accepted.length / decidable,
  };
}

/** The outcome as a page for people, most dangerous first. */
export function selftestPage(results: readonly SelftestResult[]): string {
  const summary = summarize(results);
  const unsupported = results.filter((result) => result.verdict === "unsupported");
  const line = (result: SelftestResult) =>
    `- ${result.object.replace(/\.o$/, "")} \`${result.program}\` (type ${result.programType}): ` +
    (result.expected === "reject"
      ? `kernel says: ${result.messages.join(" / ") || "(nothing)"}`
      : `${result.verdict} ${result.code} ${result.message}`);
  const section = (title: string, list: readonly SelftestResult[]) =>
    `\n## ${title}: ${list.length}\n\n${list.map(line).join("\n")}\n`;
  const reasons = new Map<string, number>();
  for (const result of unsupported.filter((result) => result.expected === "accept" && isNetwork(result))) {
    const key = `${result.code} ${result.message.replace(/ \(at -?\d+\)$/, "")}`;
    reasons.set(key, (reasons.get(key) ?? 0) + 1);
  }
  return `# Verifier against the 6.12 selftests

${results.length} programs; precision on network types ${
    (summary.precision * 100).toFixed(1)
  } % of ${summary.decidable};
${unsupported.length} unsupported.
` +
    section(
      "Accepted, must be rejected for memory, types, references, bounds, stack, context, packets",
      summary.dangerous,
    ) +
    section("Accepted, must be rejected for another kind of reason", summary.lenient) +
    section("Refused, must be accepted, network types", summary.tooStrict) +
    section("Refused, must be accepted, other types", summary.tooStrictElsewhere) +
    `\n## Unsupported, must be accepted, network types, by reason\n\n${
      [...reasons].sort(([, a], [, b]) => b - a).map(([key, count]) => `- ${count} x ${key}`).join("\n")
    }\n`;
}
