/** What a node must know to join, and the ConfigMap in which its pod finds it. @module */
import { type Clock, type Health, type Logger, ProblemError } from "@weir/common";
import type { WeirClient } from "@weir/client";
import { Authority, Member } from "@weir/proto/certificate";
import type { ApiClient } from "../api/client.ts";
import { RESOURCES } from "../api/resource.ts";

/** Name of the ConfigMap. */
export const CONFIG_MAP = "weir-cluster";
/** How often it is written: what somebody changed or deleted is mended, and addresses are followed. */
const WRITE_MS = 30_000;
/** How often it is tried where it failed. */
const RETRY_MS = 3000;

/** Where the control plane is, and by whose certificates it is known. */
export interface ClusterFactsNow {
  readonly cluster: string;
  /** Of certificate authorities, "10.0.0.1:7440". */
  readonly addresses: readonly string[];
  readonly authorityPem: string;
}

/** Options of {@link ClusterFacts}. */
export interface ClusterFactsOptions {
  client: ApiClient;
  authority: WeirClient;
  /** Of the ConfigMap. */
  namespace: string;
  clock: Clock;
  log: Logger;
  health: Health;
}

/** Asks the certificate authority, and keeps the ConfigMap. */
export class ClusterFacts {
  readonly #options: ClusterFactsOptions;

  constructor(options: ClusterFactsOptions) {
    this.#options = options;
  }

  /** @throws {ProblemError} NOT_REACHABLE (503): no machine of the control plane says where it is */
  async fetch(): Promise<ClusterFactsNow> {
    const { authority, clock } = this.#options;
    const { cluster, authorityPem } = await authority.call("/v1/authority", {
      method: "GET",
      response: Authority,
    });
    const { items } = await authority.collection("members", Member).list();
    const nowS = clock.nowMs() / 1000;
    const addresses = items
      .filter((one) =>
        one.role === "control-plane" && one.removedUnixS < one.issuedUnixS && one.expiresUnixS > nowS
      )
      .flatMap((one) => one.addresses).sort();
    if (addresses.length > 0) return { cluster, addresses: [...new Set(addresses)], authorityPem };
    throw new ProblemError("NOT_REACHABLE", {
      status: 503,
      detail: "Cannot say where the control plane is: no machine of it has told its address yet",
    });
  }

  /** Keeps the ConfigMap until `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    const { clock, log, health } = this.#options;
    health.waitFor(CONFIG_MAP, "is not written yet");
    let told = "", isWritten = false;
    while (!signal.aborted) {
      let pauseMs = WRITE_MS;
      try {
        const { addresses } = await this.#write(signal);
        health.ok(CONFIG_MAP, addresses.join(", "));
        isWritten = true;
        told = "";
      } catch (error) {
        if (signal.aborted) return;
        const { message } = error as Error;
        if (message !== told) log.warn("Cannot write the ConfigMap that nodes join by", { error });
        told = message;
        // What was written stays there, and nodes that joined need it no more.
        if (isWritten) health.ok(CONFIG_MAP, `as it was written last: ${message}`);
        else health.waitFor(CONFIG_MAP, message);
        pauseMs = RETRY_MS;
      }
      await clock.sleep(pauseMs, signal);
    }
  }

  async #write(signal: AbortSignal): Promise<ClusterFactsNow> {
    const { client, namespace } = this.#options;
    const facts = await this.fetch();
    await client.apply(RESOURCES.ConfigMap, {
      metadata: { name: CONFIG_MAP, namespace },
      data: {
        "cluster": facts.cluster,
        "addresses": facts.addresses.join(","),
        "authority.crt": facts.authorityPem,
      },
    }, { force: true, signal });
    return facts;
  }
}
