/** A node that is asked by CNI, on a clock that tests move. @module */
import { CniRequest } from "@weir/proto/endpoint";
import { TestNode, type TestNodeOptions } from "../testing.ts";
import { CniService } from "./cni_service.ts";

/** What came back. */
export interface Told {
  exitCode: number;
  /** The output, parsed; undefined: none. */
  // deno-lint-ignore no-explicit-any
  output: any;
}

/** See {@link TestNode}. */
export class CniTestNode implements AsyncDisposable {
  readonly node: TestNode;
  readonly logged: string[] = [];
  readonly #deletions: string;
  #cni: CniService | undefined;

  constructor({ deletions = "/nowhere", ...options }: TestNodeOptions & { deletions?: string } = {}) {
    this.node = new TestNode(options);
    this.#deletions = deletions;
  }

  async start(): Promise<this> {
    await this.node.start();
    return this;
  }

  /** Of the node's process that runs now. */
  get cni(): CniService {
    const { manager, clock } = this.node;
    return this.#cni ??= new CniService({
      node: manager,
      pods: manager.pods,
      clock,
      deletions: this.#deletions,
      log: (message) => this.logged.push(message),
    });
  }

  /** Asks, and lets time pass until there is an answer. */
  async ask(
    command: Parameters<CniService["handle"]>[0],
    request: Partial<CniRequest> = {},
    config: object = {},
  ): Promise<Told> {
    const asked = this.cni.handle(command, requestOf(request, config));
    return await this.answerOf(asked);
  }

  async answerOf(asked: ReturnType<CniService["handle"]>): Promise<Told> {
    let told: Told | undefined;
    void asked.then(({ exitCode, output }) =>
      told = { exitCode, output: output === "" ? undefined : JSON.parse(output) }
    );
    for (let turn = 0; told === undefined; turn++) {
      if (turn > 400) throw new Error("CNI does not answer within 200 s");
      // The disk is not the clock's.
      await new Promise((resolve) => setTimeout(resolve, 1));
      await this.node.pass(500);
    }
    return told;
  }

  /** What there is: name, container, state. */
  endpoints(): string[] {
    return this.node.manager.table.view.list().map(({ name, containerId, status }) =>
      `${name} ${containerId} ${status?.state}`
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node[Symbol.asyncDispose]();
  }
}

/** A request of container "c1" as a runtime would make it. */
export function requestOf(request: Partial<CniRequest> = {}, config: object = {}): CniRequest {
  const text = JSON.stringify({ cniVersion: "1.1.0", name: "weir", type: "weir-cni", ...config });
  const containerId = request.containerId ?? "c1";
  return CniRequest.create({
    netns: `/run/netns/${containerId}`,
    ifname: "eth0",
    config: new TextEncoder().encode(text),
    ...request,
    containerId,
  });
}
