/** What a connection of HTTP has to do with the rest of the proxy: its judge, its records, its way to the server. @module */
import type { HttpRequest } from "@weir/l7-rules";
import type { Field } from "./http1/fields.ts";
import { Http1Connection, type Http1Host, type Judgement, type Waiting } from "./http1/connection.ts";
import type { Http1Error } from "./http1/http1_error.ts";
import type { RequestHead } from "./http1/request_head.ts";
import { beginsWithPreface, Http2Connection } from "./http2/connection.ts";
import type { Http2Exchange, Http2Host } from "./http2/host.ts";
import type { Http2Error } from "./http2/http2_error.ts";
import { type RequestFields, valueOf } from "./http2/message_fields.ts";
import { HttpExchange } from "./http_exchange.ts";
import type { RedirectedConnection } from "./redirected_connection.ts";
import { Inflow, type Socket } from "./socket.ts";

/** Runs a connection of the version that its first bytes say. Never rejects. @returns why it ended */
export async function runHttp(connection: RedirectedConnection): Promise<string> {
  const { client } = connection, from = new Inflow(client);
  connection.waits("idle");
  try {
    if (await from.fill()) connection.waits("head");
    if (await beginsWithPreface(from)) {
      return await new Http2Connection(client, from, new OfHttp2(connection)).run();
    }
  } catch {
    from.close();
    return "reset";
  }
  return await new Http1Connection(client, new OfHttp1(connection), from).run();
}

/** What both versions ask for alike. */
class HttpHost {
  constructor(protected readonly connection: RedirectedConnection) {}

  connect(): Promise<Socket> {
    return this.connection.connect();
  }

  fault(error: Http1Error | Http2Error, side: "client" | "server"): void {
    this.connection.fault(error.code, side === "client" ? error.message : `the server: ${error.message}`);
  }

  waits(what: Waiting): void {
    this.connection.waits(what);
  }

  moved(): void {
    this.connection.moved();
  }
}

class OfHttp1 extends HttpHost implements Http1Host {
  /** Requests of HTTP/1.1 are under way one after the other. */
  #exchange: HttpExchange | undefined;

  judge(head: RequestHead): Judgement {
    const request = requestOf(head);
    const { verdict, changes, why } = this.#exchange = new HttpExchange(
      this.connection,
      request,
      head.version,
      head.fields,
    );
    return verdict === "closed"
      ? { verdict, why }
      : verdict === "denied"
      ? { verdict }
      : { verdict, changes };
  }

  answered(_head: RequestHead, { status, fields }: { status: number; fields: readonly Field[] }): void {
    this.#exchange!.answered(status, fields);
  }
}

class OfHttp2 extends HttpHost implements Http2Host {
  judge(request: RequestFields): Http2Exchange {
    const { method, target: { path }, host, fields } = request;
    const asked = {
      kind: "HTTP",
      method,
      path,
      host,
      header: (name: string) => valueOf(request, name),
    } as const;
    return new HttpExchange(
      this.connection,
      asked,
      "HTTP/2",
      fields.filter(({ name }) => !name.startsWith(":")),
    );
  }

  nowMs(): number {
    return this.connection.clock.monotonicMs();
  }
}

function requestOf(head: RequestHead): HttpRequest {
  return {
    kind: "HTTP",
    method: head.method,
    path: head.target.path,
    host: head.host,
    header: (name) => {
      let joined: string | undefined;
      for (const { key, value } of head.fields) {
        if (key === name) joined = joined === undefined ? value : `${joined},${value}`;
      }
      return joined;
    },
  };
}
