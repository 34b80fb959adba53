/** @weir/maps: codecs and numbers of the eBPF maps, generated from the built object. See README.md. @module */
export * from "./codec.ts";
export * from "./gen/layouts.ts";
export * from "./gen/maps.ts";
export * from "./gen/numbers.ts";
