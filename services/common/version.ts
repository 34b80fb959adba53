/** The version that every process of this tree reports. @module */
import config from "./deno.json" with { type: "json" };

/** Semantic version of Weir. */
export const WEIR_VERSION: string = config.version;
