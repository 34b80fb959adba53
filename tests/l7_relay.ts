/**
 * The L7 proxy itself on loopback, in front of one server: what the datapath does (who a connection is, the way to the server) is
 * said by the test.
 * @module
 */

import { MetricsRegistry, systemClock } from "@weir/common";
import type { Init } from "@weir/proto";
import { Handle, type L7Record, RuleSet } from "@weir/proto/l7";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import { HandlePrefixes } from "../services/l7-proxy/handle_address.ts";
import { Proxy } from "../services/l7-proxy/proxy.ts";
import { RuleBook } from "../services/l7-proxy/rule_book.ts";

/** A proxy that runs. */
export class L7Relay {
  readonly records: Init<L7Record>[] = [];
  readonly #book = new RuleBook("");
  readonly #metrics = new MetricsRegistry();
  readonly #listener: Deno.TcpListener;
  readonly #proxy: Proxy;
  readonly #stop = new AbortController();
  readonly #work: Promise<unknown>;

  /**
   * @param rules Their kind and the rules
   * @param port To listen on; 0: any
   */
  constructor(readonly serverPort: number, rules: Init<RuleSet>, port = 0) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port });
    const handle = Handle.create({
      number: 1,
      protocol: 6,
      clientAddress: "127.0.0.1",
      serverAddress: "127.0.0.1",
      serverPort,
      ingress: { endpoint: 1, remoteIdentity: 300 },
    });
    this.setRules(rules);
    this.#book.putEndpoint("db", ProxyEndpoint.create({ id: 1, policy: "db" }));
    this.#proxy = new Proxy({
      prefixes: new HandlePrefixes(["240.0.0.0/8"]),
      book: this.#book,
      records: { send: (record) => void this.records.push(record) },
      handleOf: () => Promise.resolve(handle),
      connect: () => Deno.connect({ hostname: "127.0.0.1", port: serverPort }),
      metrics: this.#metrics,
      clock: systemClock,
    });
    this.#work = Promise.all([this.#accept(), this.#proxy.sweep(this.#stop.signal)]);
  }

  get port(): number {
    return (this.#listener.addr as Deno.NetAddr).port;
  }

  /** Puts other rules in force, for the next request. */
  setRules(rules: Init<RuleSet>): void {
    const deniedBy = ["cnp:shop/rules spec.ingress[0]"];
    this.#book.putPolicy(
      "db",
      ProxyPolicy.create({
        name: "db",
        enforceIngress: true,
        entries: [
          MapStateEntry.create({
            direction: "INGRESS",
            protocol: 6,
            port: this.serverPort,
            portPrefixLength: 16,
            precedence: 1,
            ruleSet: 1,
            cookie: 5,
          }),
        ],
        ruleSets: [RuleSet.create({ ...rules, id: 1, deniedCookie: 99, deniedBy })],
      }),
    );
  }

  /** Why connections ended, each once. */
  ends(): string[] {
    return [
      ...new Set(
        [...this.#metrics.render().matchAll(/_ended_total\{.*why="([^"]*)"/g)].map(([, why]) => why),
      ),
    ];
  }

  async #accept(): Promise<void> {
    const served: Promise<void>[] = [];
    try {
      for await (const socket of this.#listener) {
        served.push(this.#proxy.serve({ socket, address: "240.0.0.1" }));
      }
    } catch { /* it was closed */ }
    await Promise.all(served);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.#stop.abort();
    await this.#work;
  }
}
