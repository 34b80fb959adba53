/** @module Kernel tests run as root; elsewhere they say SKIP. */
export { kernelTest } from "../../datapath/loader/testing.ts";
