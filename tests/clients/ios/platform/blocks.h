/** Makes blocks objects; to be called before the first one is sent a message. */
void make_blocks_objects(void);
