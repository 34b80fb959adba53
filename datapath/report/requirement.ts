/** What an object needs of the kernel it shall run on. @module */
import type { SourceMap } from "@weir/object";
import type { VerifyRequest } from "@weir/verifier";
import { compareReleases, type FeatureKind, featureOf, type FeatureRow } from "./kernel_versions.ts";
import { placeOf } from "./sentence.ts";

/** Something that a kernel release lacks. */
export interface Requirement {
  readonly kind: FeatureKind;
  readonly name: string;
  /** First release that has it. */
  readonly since: string;
  /** Where the program uses it, `nat.h:120`; empty for types. */
  readonly at: string;
}

/** Numbers of the rows of kind `feature` in kernel_versions.tsv. */
const FEATURE = {
  calls: 1,
  jump32: 2,
  globals: 3,
  atomics: 4,
  kfuncs: 5,
  callbacks: 6,
  v4: 7,
  mayGoto: 8,
  ordered: 9,
} as const;

/** Everything the program needs that `release` does not have, oldest need first. */
export function missingIn(release: string, request: VerifyRequest, source: SourceMap): Requirement[] {
  const missing = new Map<string, Requirement>();
  const need = (row: FeatureRow | undefined, at: string): void => {
    if (row === undefined || compareReleases(row.kernel, release) <= 0) return;
    const key = `${row.kind}:${row.number}`;
    if (!missing.has(key)) missing.set(key, { kind: row.kind, name: row.name, since: row.kernel, at });
  };
  need(featureOf("program", request.programType), "");
  // Attach type 0 is also "none asked for"; it is older than any release of the table.
  if (request.attachType) need(featureOf("attach", request.attachType), "");
  for (const map of request.maps ?? []) need(featureOf("map", map.type), "");
  if (request.subprograms?.some((f) => f.linkage === "global")) {
    need(featureOf("feature", FEATURE.globals), "");
  }
  for (let index = 0; index < source.instructionCount; index++) {
    const { opcode, src, offset, immediate } = source.instructionAt(index);
    if (opcode === 0x18) {
      if (src === 4) need(featureOf("feature", FEATURE.callbacks), placeOf(source, index));
      index++;
    } else if (opcode === 0x85) {
      const at = placeOf(source, index);
      if (src === 0) need(featureOf("helper", immediate), at);
      else need(featureOf("feature", src === 1 ? FEATURE.calls : FEATURE.kfuncs), at);
    } else {
      const feature = encodingFeature(opcode, offset, immediate);
      if (feature !== 0) need(featureOf("feature", feature), placeOf(source, index));
    }
  }
  return [...missing.values()].sort((a, b) => compareReleases(a.since, b.since));
}

/** Which extension of the instruction set an instruction belongs to; 0 for the first one. */
function encodingFeature(opcode: number, offset: number, immediate: number): number {
  const kind = opcode & 7, operation = opcode & 0xf0;
  if (opcode === 0x06) return FEATURE.v4;
  if (opcode === 0xe5) return FEATURE.mayGoto;
  if (kind === 6) return FEATURE.jump32;
  // STX with mode ATOMIC (0xc0): plain add is old, everything else came later.
  if (kind === 3 && (opcode & 0xe0) === 0xc0) {
    if (immediate === 0x100 || immediate === 0x110) return FEATURE.ordered;
    return immediate === 0 ? 0 : FEATURE.atomics;
  }
  if (kind === 1 && (opcode & 0xe0) === 0x80) return FEATURE.v4;
  if (kind === 4 || kind === 7) {
    if (operation === 0xb0 && offset !== 0) return FEATURE.v4;
    if ((operation === 0x30 || operation === 0x90) && offset === 1) return FEATURE.v4;
    if (operation === 0xd0 && kind === 7) return FEATURE.v4;
  }
  return 0;
}
