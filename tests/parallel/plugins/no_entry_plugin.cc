// A library that is no plugin.
extern "C" int moed_nothing() { return 0; }
