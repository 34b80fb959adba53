/** The control plane's services in one process, for tests beside a real API server. @module */
import { ApiServer } from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { IssueRequest } from "@weir/proto/certificate";
import { Policy } from "@weir/proto/policy";
import { type ApiClient, createKubernetesService, type KubernetesService } from "@weir/kubernetes";
import { createCertificateAuthority } from "../../services/certificate-authority/mod.ts";
import { createIdentityAllocator } from "../../services/identity-allocator/mod.ts";
import { createLoadBalancer } from "../../services/load-balancer/mod.ts";
import { createPolicyEngine } from "../../services/policy-engine/mod.ts";

/** The control plane's services in this process. */
export class Plane implements AsyncDisposable {
  readonly #databases: Database[] = [];
  readonly #clients: WeirClient[] = [];
  readonly authority = createCertificateAuthority({ database: this.#database() });
  readonly allocator = createIdentityAllocator({ database: this.#database() });
  readonly engine = createPolicyEngine({
    database: this.#database(),
    allocator: this.client(this.allocator.api.fetch),
  });
  readonly lb = createLoadBalancer({ database: this.#database() });
  readonly policies = this.client(this.engine.handler).collection("policies", Policy);

  client(handler: (request: Request) => Promise<Response>): WeirClient {
    const client = new WeirClient({ handler });
    this.#clients.push(client);
    return client;
  }

  async start(): Promise<void> {
    await this.authority.start();
    const { requestPem } = await createCertificateRequest("plane");
    const addresses = ["192.0.2.1:7440"];
    await this.authority.issue(
      IssueRequest.create({ requestPem, node: "plane", role: "control-plane", addresses }),
      {},
    );
    await this.allocator.start();
    this.engine.start();
    this.lb.start();
    await Promise.all([this.engine.waitReady(), this.lb.waitReady()]);
  }

  kubernetes(client: ApiClient): KubernetesService {
    const service = createKubernetesService({
      client,
      policyEngine: this.client(this.engine.handler),
      loadBalancer: this.client(this.lb.handler),
      identityAllocator: this.client(this.allocator.api.fetch),
      authority: this.client(this.authority.api.fetch),
      cluster: "default",
      namespace: "weir-system",
      nodeServiceAccount: "weir-node",
      api: new ApiServer({ name: "kubernetes" }),
    });
    service.start();
    return service;
  }

  async policyNames(): Promise<string> {
    return (await this.policies.list()).items.map(({ name }) => name).sort().join();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.engine.stop();
    await this.lb.stop();
    await this.allocator.stop();
    await this.authority.stop();
    for (const database of this.#databases) await database.close();
  }

  #database(): Database {
    const database = new Database("sqlite::memory:");
    this.#databases.push(database);
    return database;
  }
}
