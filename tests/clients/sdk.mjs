// The TypeScript SDK, current generation: plain, streamed, counted, listed, refused.
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';

const client = new Anthropic({ apiKey: process.env.ANTHROPIC_API_KEY, baseURL: process.env.ANTHROPIC_BASE_URL });
const ask = { model: 'claude-opus-5', max_tokens: 64, messages: [{ role: 'user', content: 'Say hi.' }] };

const plain = await client.messages.create(ask);
assert.equal(plain.type, 'message');
assert.ok(plain.usage.input_tokens > 0 && plain.usage.output_tokens > 0);

const stream = client.messages.stream(ask);
let text = '';
stream.on('text', part => { text += part; });
const streamed = await stream.finalMessage();
assert.ok(text.length > 0);
assert.ok(streamed.stop_reason);

const counted = await client.messages.countTokens({ model: ask.model, messages: ask.messages });
assert.ok(counted.input_tokens > 0);

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.ok(models.length > 0);

const stranger = new Anthropic({ apiKey: `cr_${'0'.repeat(64)}`, baseURL: process.env.ANTHROPIC_BASE_URL });
await assert.rejects(stranger.messages.create(ask), error => error instanceof Anthropic.AuthenticationError);
console.log(`  plain, streamed, counted, ${models.length} models listed, a stranger refused`);
