/** @weir/object: reads compiled eBPF objects; every offset in them is hostile until checked. See README.md. @module */
export * from "./btf.ts";
export * from "./btf_ext.ts";
export * from "./elf.ts";
export { LIMITS, ObjectError, type ObjectErrorCode } from "./error.ts";
export { type AssembledProgram, type ProgramFunction, PSEUDO, type Reference } from "./assembly.ts";
export { CORE_POISON_HELPER } from "./core_relocation.ts";
export type { Extern, KernelConfig } from "./extern.ts";
export type { FunctionCode } from "./function_code.ts";
export * from "./kinds.ts";
export { MAP_FLAG_RDONLY_PROG, type MapDefinition } from "./map_definition.ts";
export { BpfObject, type ObjectOptions, type ObjectProgram } from "./object.ts";
export { kindOf, kindOfContext, kindOfSection, type ProgramKind } from "./section_name.ts";
export { SourceMap } from "./source_map.ts";
export { fieldsOfMap, specialFieldsOf } from "./value_fields.ts";
export { isGplCompatible, type ProgramRequest, requestOf } from "./verify_request.ts";
export { type AskedRequest, settle, settleBy, TypeOracle } from "./type_oracle.ts";
export { attachFactsOf } from "./tracing_target.ts";
export { contractOf, type FunctionContract, type FunctionOwner } from "./global_function.ts";
