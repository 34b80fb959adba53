/** Turns a program of an object into the question for the verifier, with the source beside it. @module */
import type {
  KernelIgnorance,
  KfuncFacts,
  MapFacts,
  MapShape,
  SubprogramFacts,
  VerifyLimits,
  VerifyRequest,
} from "@weir/verifier";
import type { AssembledProgram } from "./assembly.ts";
import { ObjectError } from "./error.ts";
import { contractOf, type FunctionOwner } from "./global_function.ts";
import { ATTACH_TYPES, programTypeNumber } from "./kinds.ts";
import type { MapDefinition } from "./map_definition.ts";
import type { BpfObject, ObjectProgram } from "./object.ts";
import { SourceMap } from "./source_map.ts";
import { attachFactsOf } from "./tracing_target.ts";
import { TypeOracle } from "./type_oracle.ts";
import { fieldsOfMap } from "./value_fields.ts";

/** A question and what its answer is explained with. */
export interface ProgramRequest {
  readonly request: VerifyRequest;
  readonly source: SourceMap;
  /** Answers what the verifier asks about kernel types (see {@link settle}); undefined when they were not given. */
  readonly oracle?: TypeOracle;
}

/** Licences that the kernel counts as GPL-compatible (include/linux/license.h). */
const GPL_COMPATIBLE: ReadonlySet<string> = new Set([
  "GPL",
  "GPL v2",
  "GPL and additional rights",
  "Dual BSD/GPL",
  "Dual MIT/GPL",
  "Dual MPL/GPL",
]);

/** Contents of frozen maps beyond this are not sent: constants are folded from configuration, not from tables. */
const CONTENTS_BYTES_MAX = 1024 * 1024;

/** Whether a licence string lets a program call GPL-only helpers. */
export function isGplCompatible(licence: string): boolean {
  return GPL_COMPATIBLE.has(licence);
}

/**
 * Puts `program` together and asks for its verdict.
 * @param extra What the request should also say.
 * @throws {ObjectError} when the program cannot be put together or its type is not known.
 */
export function requestOf(
  object: BpfObject,
  program: ObjectProgram,
  extra: {
    limits?: VerifyLimits;
    recordVisits?: boolean;
    kernelProfile?: string;
    strict?: boolean;
    kernelIgnores?: readonly KernelIgnorance[];
  } = {},
): ProgramRequest {
  if (program.kind === undefined) {
    throw new ObjectError("bad-program", `program ${program.name}`, {
      found: `section "${program.section}", which names no program type`,
      expected: "a section name that libbpf knows; say the type with --type",
    });
  }
  const assembled = object.assemble(program);
  const { type: programType, attachType } = program.kind;
  const owner = programType === programTypeNumber("tracing")
    ? { programType, tracing: ATTACH_TYPES[attachType] }
    : { programType };
  const request: VerifyRequest = {
    name: program.name,
    programType: program.kind.type,
    attachType: program.kind.attachType,
    programFlags: program.kind.flags,
    gplCompatible: isGplCompatible(object.licence),
    instructions: assembled.instructions,
    maps: assembled.maps.map((index) => mapFacts(object, object.maps[index])),
    subprograms: assembled.functions.map((_, index) => subprogram(object, assembled, index, owner)),
    kfuncs: kfuncs(assembled),
    ...exceptionCallback(program),
    ...extra,
  };
  const attach = attachFactsOf(program.kind, object.kernelBtf, object.attach);
  const oracle = object.kernelBtf === undefined
    ? undefined
    : new TypeOracle(object.kernelBtf, assembled.instructions);
  if (attach !== undefined) {
    for (const slot of attach.slots) if (slot.type) oracle?.expect(slot.type);
    request.kernelTypes = { attach, ...oracle?.facts() };
  }
  return {
    request,
    source: new SourceMap(assembled, object.maps),
    ...(oracle === undefined ? {} : { oracle }),
  };
}

function mapFacts(object: BpfObject, map: MapDefinition): MapFacts {
  const sendContents = map.frozen && map.contents !== undefined && map.contents.length <= CONTENTS_BYTES_MAX;
  return {
    ...shape(object, map),
    handle: map.index,
    frozen: map.frozen,
    ...(sendContents ? { contents: map.contents } : {}),
    ...(map.inner === undefined ? {} : { inner: shape(object, map.inner) }),
  };
}

function shape(object: BpfObject, map: MapDefinition): MapShape {
  return {
    type: map.type,
    keySize: map.keySize,
    valueSize: map.valueSize,
    maxEntries: map.maxEntries,
    flags: map.flags,
    specialFields: fieldsOfMap(object, map),
  };
}

function subprogram(
  object: BpfObject,
  assembled: AssembledProgram,
  index: number,
  owner: FunctionOwner,
): SubprogramFacts {
  const found = assembled.functions[index];
  const func = object.btf !== undefined && found.type !== 0 ? object.btf.type(found.type) : undefined;
  const isGlobal = index > 0 && !found.isStatic && func?.kind === "func" && func.linkage === "global";
  const contract = func?.kind === "func" ? contractOf(object.btf!, found.type, owner) : undefined;
  return {
    start: found.start,
    name: found.name,
    linkage: isGlobal ? "global" : "static",
    ...(contract === undefined
      ? {}
      : isGlobal
      ? { arguments: contract.arguments, returns: contract.returns }
      : { returns: contract.returns }),
  };
}

function exceptionCallback(program: ObjectProgram): { exceptionCallback?: string } {
  const mark = "exception_callback:";
  const tag = program.tags.find((tag) => tag.startsWith(mark));
  return tag === undefined ? {} : { exceptionCallback: tag.slice(mark.length) || "?" };
}

function kfuncs(assembled: AssembledProgram): KfuncFacts[] {
  const view = new DataView(assembled.instructions.buffer, assembled.instructions.byteOffset);
  const found = new Map<number, string>();
  for (const [instruction, reference] of assembled.references) {
    if (reference.kind === "kfunc") found.set(view.getUint32(instruction * 8 + 4, true), reference.name);
  }
  return [...found].map(([btfId, name]) => ({ btfId, name }));
}
