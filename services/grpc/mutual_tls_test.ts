import assert from "node:assert/strict";
import { MetricsRegistry, systemClock, untilAborted } from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { ServerStatusRequest, ServerStatusResponse } from "@weir/proto/observer";
import { Authority, createAuthority } from "../certificate-authority/authority.ts";
import { connectGrpc, type GrpcClientTls } from "./client.ts";
import { streamingBytes, unary } from "./methods.ts";
import { GrpcServer } from "./server.ts";

const STATUS = [ServerStatusRequest, ServerStatusResponse] as const;
const NAME = "observer.weir.internal";

Deno.test("both sides of mutual TLS look at the other's certificate, and the server again while it is connected", async () => {
  const stored = await createAuthority("c", Date.now()), authority = await Authority.load("c", stored);
  const issue = async (node: string, hosts: string[]) => {
    const { requestPem, keyPem } = await createCertificateRequest(node);
    const options = {
      peer: { role: "reader", node } as const,
      hosts,
      nowMs: Date.now(),
      lifetimeMs: 3_600_000,
    };
    return { cert: (await authority.issue(requestPem, options)).certificatePem, key: keyPem };
  };
  const [served, shown, unnamed] = [await issue("n", [NAME]), await issue("plane", []), await issue("x", [])];
  let isWelcome = true;
  const methods = { "/t/One": unary(...STATUS, () => ServerStatusResponse.create({ num_flows: 7 })) };
  const server = new GrpcServer({ methods }), clientAuthority = stored.certificatePem;
  const listen = (own: { cert: string; key: string }) =>
    server.listen({ hostname: "127.0.0.1", port: 0 }, {
      ...own,
      clientAuthority,
      check: ({ subjectAltName }) => {
        if (!isWelcome || !subjectAltName?.includes("/reader/plane")) throw new Error("no");
      },
    });
  const { port, recheck } = await listen(served);
  const asks = async (tls: Partial<GrpcClientTls> = {}, to = port) => {
    const connection = await connectGrpc({ hostname: "127.0.0.1", port: to }, {
      tls: { ...shown, authority: stored.certificatePem, serverName: NAME, ...tls },
    });
    const { num_flows } = await connection.unary("/t/One", STATUS, {}, { deadlineMs: 20_000 });
    assert.equal(num_flows, 7);
    return connection;
  };
  try {
    const connection = await asks({
      check: ({ subjectAltName }) => assert.equal(subjectAltName, `URI:weir://c/reader/n, DNS:${NAME}`),
    });
    const stranger = { authority: (await createAuthority("c", Date.now())).certificatePem };
    await assert.rejects(asks(stranger), { status: "UNAVAILABLE" });
    await assert.rejects(asks({ serverName: "other.weir.internal" }), { status: "UNAVAILABLE" });
    const check = () => {
      throw new Error("it is another machine");
    };
    await assert.rejects(asks({ check }), { status: "UNAUTHENTICATED", message: /another machine/ });
    await assert.rejects(asks(unnamed), { status: "UNAVAILABLE" }, "the server looks too");
    await assert.rejects(asks({ cert: undefined, key: undefined }), { status: "UNAVAILABLE" });
    const cannotServe = await listen(unnamed);
    await assert.rejects(asks({}, cannotServe.port), { status: "UNAVAILABLE" });
    let isBelieved = true;
    const judged = await asks({
      check: () => {
        if (!isBelieved) throw new Error("it was removed");
      },
    });
    judged.recheck();
    await judged.unary("/t/One", STATUS, {});
    isBelieved = false;
    judged.recheck();
    assert.match(await judged.closed, /it was removed/);
    recheck();
    await systemClock.sleep(50);
    await connection.unary("/t/One", STATUS, {});
    isWelcome = false;
    recheck();
    await connection.closed;
  } finally {
    await server.stop();
  }
});

Deno.test("one certificate that holds all places gives one up to another, from the same address", async () => {
  const stored = await createAuthority("c", Date.now()), authority = await Authority.load("c", stored);
  const issue = async (node: string, hosts: string[]) => {
    const { requestPem, keyPem } = await createCertificateRequest(node);
    const peer = { role: "reader", node } as const;
    const { certificatePem } = await authority.issue(requestPem, {
      peer,
      hosts,
      nowMs: Date.now(),
      lifetimeMs: 3_600_000,
    });
    return { cert: certificatePem, key: keyPem };
  };
  const methods = {
    "/t/Wait": streamingBytes(ServerStatusRequest, async function* (_, { signal }) {
      yield [new Uint8Array()];
      await untilAborted(signal);
    }),
  };
  const metrics = new MetricsRegistry();
  const server = new GrpcServer({ methods, metrics, limits: { connectionsMax: 7 } });
  const listened = await server.listen({ hostname: "127.0.0.1", port: 0 }, {
    ...await issue("n", [NAME]),
    clientAuthority: stored.certificatePem,
  });
  const hold = async (shown: { cert: string; key: string }) => {
    const connection = await connectGrpc({ hostname: "127.0.0.1", port: listened.port }, {
      tls: { ...shown, authority: stored.certificatePem, serverName: NAME },
    });
    const calls = connection.stream("/t/Wait", new Uint8Array())[Symbol.asyncIterator]();
    await calls.next();
    return { connection, calls };
  };
  try {
    const greedy = await issue("greedy", []), other = await issue("other", []);
    for (let n = 0; n < 7; n++) await hold(greedy);
    await assert.rejects(hold(greedy), "nobody but itself could give one up");
    for (let n = 0; n < 3; n++) await hold(other);
    assert.match(metrics.render(), /^weir_grpc_refused_total{reason="share"} 3$/m);
    await assert.rejects(hold(other), "it has as many as the first");
  } finally {
    await server.stop(0);
  }
});
