#!/bin/sh
# An agent in POSIX shell: reads one request from standard input, writes one event a line to standard output.
#
#     turnkit serve --command ./agent.sh
#
# It counts the words of the message with a tool and tells what it found. With the word "slow" it takes its time, so that you
# can reload the page in the middle, or stop it.
set -eu
# The answer is split into words below, none of which is a file name pattern.
set -f

# The message as it stands in the request, escapes and all: it may stand in an event the same way. (The request begins with
# "executionId" and "message", so no other member of that name is in front of it.)
message=$(sed -n '1s/^{"executionId":"[^"]*","message":"\([^"\]*\(\\.[^"\]*\)*\)".*/\1/p')

case $message in
*slow*) pause='sleep 1' ;;
*) pause=: ;;
esac

# delta ID TYPE TEXT: more text of a part.
delta() {
    printf '{"type":"message.part.updated","data":{"part":{"id":"%s","messageID":"msg_1","type":"%s"},"delta":"%s"}}\n' "$1" "$2" "$3"
    $pause
}

# tool STATE: what the tool call is doing, as a JSON object.
tool() {
    printf '{"type":"message.part.updated","data":{"part":{"id":"prt_tool","messageID":"msg_1","type":"tool","tool":"bash","callID":"call_1","state":%s}}}\n' "$1"
}

delta prt_reasoning reasoning 'I count the words of the message, '
delta prt_reasoning reasoning 'then I look at the machine I run on.'

tool '{"status":"running","input":{"command":"wc -w"}}'
words=$(printf '%s\n' "$message" | sed 's/\\[nrt]/ /g' | wc -w | tr -d ' ')
tool "{\"status\":\"completed\",\"input\":{\"command\":\"wc -w\"},\"output\":\"$words\",\"title\":\"Count the words\"}"

answer="Your message has **$words** words. I am a shell script of one page, running on $(uname -s) as process $$, and I end with this sentence."
written=0
for word in $answer; do
    delta prt_text text "$word "
    written=$((written + 1))
done

printf '{"type":"result","data":{"finalText":"%s ","tokenUsage":{"inputTokens":%s,"outputTokens":%s}}}\n' "$answer" "$words" "$written"
