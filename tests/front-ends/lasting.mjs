/**
 * A transport that goes on by itself where a response is cut, within a page: what the guide prints for `ai` 5 and 6, whose clients do not
 * begin a message anew when they resume it. It counts the chunks that have come, and asks for the rest.
 */
export function lastingTransport(DefaultChatTransport, { delay = 500, ...options } = {}) {
  return new (class extends DefaultChatTransport {
    #count = 0;
    constructor() {
      super({ ...options, prepareReconnectToStreamRequest: ({ id, api }) => ({ api: this.#restOf(id, api) }) });
    }
    #restOf(id, api) {
      const [path, query] = api.split("?");
      return `${path}/${encodeURIComponent(id)}/stream?${new URLSearchParams([...new URLSearchParams(query), ["startIndex", this.#count]])}`;
    }
    async sendMessages(request) {
      this.#count = 0;
      return this.#lasting(await super.sendMessages(request), request);
    }
    async reconnectToStream(request) {
      this.#count = 0;
      const stream = await super.reconnectToStream(request);
      return stream && this.#lasting(stream, request);
    }
    #lasting(stream, request) {
      let [reader, isOver] = [stream.getReader(), false];
      const pull = async (out) => {
        const { done, value } = await reader.read().catch((error) => ({ done: true, error }));
        if (!done) {
          this.#count++;
          isOver ||= ["finish", "error"].includes(value.type);
          return out.enqueue(value);
        }
        if (isOver || request.abortSignal?.aborted) return out.close();
        await new Promise((resolve) => setTimeout(resolve, delay));
        const rest = await super.reconnectToStream(request).catch(() => null);
        if (rest) reader = rest.getReader();
        return pull(out);
      };
      return new ReadableStream({ pull, cancel: (reason) => reader.cancel(reason) });
    }
  })();
}
