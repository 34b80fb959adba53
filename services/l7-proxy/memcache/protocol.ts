/** What the text and the binary protocol have in common. @module */
import type { MemcacheShared } from "./limits.ts";
import type { MemcacheJudge } from "./verdict.ts";

/** Where bytes go, in order. */
export interface Out {
  readonly toServer: Uint8Array[];
  readonly toClient: Uint8Array[];
}

/** One of the two protocols, on one connection. Its methods throw what {@link MemcacheConnection} closes on. */
export interface MemcacheProtocol {
  fromClient(bytes: Uint8Array, out: Out): void;
  fromServer(bytes: Uint8Array, out: Out): void;
  readonly waitsFor: "head" | "stream" | "idle";
  /** Why the connection is to be closed; "": it is not. */
  readonly closes: string;
  /** Gives back what is held. */
  end(): void;
}

/** What either needs. */
export interface ProtocolOptions {
  readonly shared: MemcacheShared;
  readonly judge: MemcacheJudge;
}
