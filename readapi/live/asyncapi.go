package live

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// frame is a type of frame as the document tells of it: its schema is the Go type's.
type frame struct {
	of      any
	summary string
	answers []string // of a client's: the frames that answer it
}

// What each frame is for. The keys of the document are the types' names: a client's read is Read, the server's HasRead.
func clientFrames() []frame {
	return []frame{
		{Subscribe{}, "Asks for the messages of a room after one, those that are there and those that come. Again: begins anew.", []string{"Subscribed", "Error"}},
		{Unsubscribe{}, "Ends a subscription.", nil},
		{Post{}, "Says something, once for each client_message_id: send it again until it is answered.", []string{"Posted", "Error"}},
		{Read{}, "Notes how far the client has read. A mark never goes back.", nil},
		{Typing{}, "Tells the other side that the client is writing.", nil},
		{Ping{}, "Asks for a Pong.", []string{"Pong"}},
	}
}

func serverFrames() []frame {
	return []frame{
		{of: Subscribed{}, summary: "The subscription holds: every message after after_seq follows, in order, without holes, none twice."},
		{of: Message{}, summary: "The room's next message; the sender's sockets get it too."},
		{of: Posted{}, summary: "The post is on disk."},
		{of: HasRead{}, summary: "How far the other side has read."},
		{of: IsTyping{}, summary: "The other side is writing. May be lost."},
		{of: Presence{}, summary: "Whether the other side has a socket open in this room, on any node. May be lost."},
		{of: Resync{}, summary: "The subscription has ended, since it fell behind: subscribe again after the last message that came."},
		{of: Pong{}, summary: "Answers a Ping."},
		{of: Error{}, summary: "A frame was refused, or a subscription has ended. With retry_after: try again then, a post under the same client_message_id. " +
			"A code that begins with room. is final."},
	}
}

// closeCodes are why a connection is closed.
func closeCodes() map[string]string {
	out := map[string]string{}
	for code, why := range map[int]string{
		int(CloseRestart): "The node ends: connect again at once, to another.",
		int(CloseExpired): "The token expired: connect again with a new one.",
		int(CloseSlow):    "The client read nothing for too long: connect again, and subscribe after the last message.",
		int(CloseAbuse):   "Too many frames, or too many malformed ones.",
		1003:              "A binary message: frames are JSON in text messages.",
		1009:              fmt.Sprintf("A frame longer than %d bytes.", maxFrame),
	} {
		out[strconv.Itoa(code)] = why
	}
	return out
}

type object = map[string]any

func ref(path string) object { return object{"$ref": "#/" + path} }

// AsyncAPI is the AsyncAPI 3 document of the socket, made from the types of its frames. It is told from the server's side:
// it receives what a client sends.
func AsyncAPI(version string) any {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	messages, inChannel, operations := object{}, object{}, object{}
	add := func(f frame) (name string, message object) {
		name = reflect.TypeOf(f.of).Name()
		schema := schemas.Schema(reflect.TypeOf(f.of), true, name)
		messages[name] = object{"name": name, "title": name, "summary": f.summary, "contentType": "application/json", "payload": schema}
		inChannel[name] = ref("components/messages/" + name)
		return name, ref("channels/live/messages/" + name)
	}
	for _, f := range clientFrames() {
		name, message := add(f)
		operation := object{"action": "receive", "channel": ref("channels/live"), "summary": f.summary, "messages": []any{message}}
		if f.answers != nil {
			var answers []any
			for _, a := range f.answers {
				answers = append(answers, ref("channels/live/messages/"+a))
			}
			operation["reply"] = object{"channel": ref("channels/live"), "messages": answers}
		}
		operations["receive"+name] = operation
	}
	strict := slices.Collect(maps.Keys(schemas.Map())) // the server refuses members that it does not know; a client must not
	var sent []any
	for _, f := range serverFrames() {
		_, message := add(f)
		sent = append(sent, message)
	}
	operations["send"] = object{"action": "send", "channel": ref("channels/live"), "summary": "What the server sends.", "messages": sent}
	for name, schema := range schemas.Map() {
		if !slices.Contains(strict, name) {
			schema.AdditionalProperties = nil
		}
	}
	security := []any{ref("components/securitySchemes/bearer"), ref("components/securitySchemes/bearerSubprotocol")}
	return object{
		"asyncapi": "3.0.0",
		"info": object{
			"title": "DangDang Salon, live", "version": version,
			"description": "Chat over a WebSocket. Each frame is one JSON object in a text message. Pass over types and members that you do not know: " +
				"later releases may send more.",
		},
		"defaultContentType": "application/json",
		"servers": object{
			"local": object{"host": "127.0.0.1:8080", "protocol": "ws", "description": "salon up", "security": security},
		},
		"channels": object{"live": object{
			"address": "/v1/live", "title": "A person's socket",
			"description": "Offer the subprotocol " + Subprotocol + ". After a lost connection connect again, subscribe after the last message that came, and send " +
				"the posts again that were not answered. x-close-codes says why the server closes.",
			"messages":      inChannel,
			"bindings":      object{"ws": object{"method": "GET", "bindingVersion": "0.1.0"}},
			"x-close-codes": closeCodes(),
		}},
		"operations": operations,
		"components": object{
			"messages": messages, "schemas": schemas.Map(),
			"securitySchemes": object{
				"bearer": object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
				"bearerSubprotocol": object{
					"type": "httpApiKey", "in": "header", "name": "Sec-WebSocket-Protocol",
					"description": "For browsers, which cannot set headers: a second subprotocol, " + BearerPrefix + " and the JWT.",
				},
			},
		},
	}
}
