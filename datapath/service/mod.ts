/** @weir/datapath: desired state in, kernel state out. See README.md. @module */
export { createDatapath, type Datapath, type DatapathConfig, type DatapathParts } from "./datapath.ts";
export { type Removed, uninstall } from "./uninstall.ts";
